"""All benchmarks: `python tests/benchmarks`; or some of them: `python tests/benchmarks startup`.

Each benchmark runs in a separate process, so that none inherits another's memory. `gsm8k` takes longest, and runs only when
it is named.
"""

import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ("startup", "pipeline", "padding", "growth", "scoring", "bootstrap", "throughput")


@click.command()
@click.argument("figures", nargs=-1, type=click.Choice([*FIGURES, "gsm8k"]))
def main(figures: tuple[str, ...]) -> None:
    """Measure this machine: FIGURES, or all of them except gsm8k."""
    for figure in figures or FIGURES:
        print(f"\n== {figure}", flush=True)
        module = f"tests.benchmarks.bench_{figure}"
        measured = subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=False)
        if measured.returncode:
            sys.exit(measured.returncode)


if __name__ == "__main__":
    main()
