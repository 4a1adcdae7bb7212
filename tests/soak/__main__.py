"""Fault injection: `python -m tests.soak`, or a shorter run with `--kills 50 --flips 30 --harms 30 --minutes 1`.

Not part of the suite. Prints what was done; the first wrong answer, torn file or lost row ends it.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.soak.corruption import corruptions
from tests.soak.flips import flips
from tests.soak.harness import Spawner, Work, random_kills
from tests.soak.machine import run_machine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="kill -9 at random moments")
    parser.add_argument(
        "--flips", type=int, default=300, help="flipped bits in saved and published files"
    )
    parser.add_argument("--harms", type=int, default=300, help="harmed files, of eight states")
    parser.add_argument("--minutes", type=float, default=10, help="of random sequences")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder, Spawner(Path(folder) / "log") as spawner:
        for layout in ("file", "parts"):
            work = Work(Path(folder) / layout, spawner, layout=layout)
            began = time.monotonic()
            kills = random_kills(work, arguments.kills // 2, chance, longest=0.6)
            print(f"{layout}: {kills} in {time.monotonic() - began:.0f} s", flush=True)
            began = time.monotonic()
            for what, count in sorted(flips(work, arguments.flips // 2, chance).items()):
                print(f"{layout}: {count:4} bits in {what}")
            print(f"{layout}: flips took {time.monotonic() - began:.0f} s", flush=True)
            began = time.monotonic()
            for what, count in sorted(corruptions(work, arguments.harms // 2, chance).items()):
                print(f"{layout}: {count:4} x {what}")
            print(f"{layout}: harms took {time.monotonic() - began:.0f} s", flush=True)
            sequences = run_machine(work, arguments.minutes * 30)
            print(f"{layout}: {sequences} sequences", flush=True)
    print("zero lost, doubled, mixed or torn")


if __name__ == "__main__":
    main()
