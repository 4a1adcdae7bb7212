"""All benchmarks: `python tests/benchmarks`; or some of them: `python tests/benchmarks startup`.

Each benchmark runs in a separate process, so that none inherits another's memory. `gsm8k` takes longest, and is printed only
when it is named.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ("startup", "pipeline", "padding", "growth", "scoring", "bootstrap", "throughput")


def main() -> None:
    for figure in sys.argv[1:] or FIGURES:
        print(f"\n== {figure}", flush=True)
        module = f"tests.benchmarks.bench_{figure}"
        subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
