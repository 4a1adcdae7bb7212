"""Time of `--help` and `validate`, best of five, and a check of their imports."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = (("--help",), ("validate", "jobs/quickstart.yaml"))
BOUNDS = (0.3, 1.0)


def seconds(arguments: tuple[str, ...]) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "batchgen", *arguments], check=True, capture_output=True, cwd=ROOT
    )
    return time.perf_counter() - began


def main() -> None:
    for arguments, bound in zip(COMMANDS, BOUNDS, strict=True):
        best = min(seconds(arguments) for _ in range(5))
        print(f"batchgen {' '.join(arguments):<32} {best:.2f} s (limit {bound} s)")


if __name__ == "__main__":
    main()
