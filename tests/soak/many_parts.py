"""Thousands of parts that many workers make in one folder, while workers die at random: what a part and a claim cost.

python -m tests.soak.many_parts FOLDER --parts 5000 --rows 2000 --workers 64

Workers are processes with the claims, members and sealed parts of `--shard any`; the answers of a part are a table that is at hand.
This process watches as the driver of a Ray cluster does, and replaces workers that die. It checks all parts and prints what was seen.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pyarrow as pa

from batchgen.state.parts import read_part
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.claims import EXPIRY_SECONDS, FolderClaims, PartClaims
from batchgen.state.shards.members import join
from batchgen.state.shards.sealed_counter import SealedCounter
from batchgen.state.shards.shard import Shard
from batchgen.state.shards.shared_parts import SharedPartStore

LEAST_PARTS, MOST_PARTS = 10, 80
"""Between two deaths of a worker."""
_SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """How much there is to do."""

    parts: int
    rows: int
    workers: int


@dataclass(slots=True)
class Outcome:
    """What was seen.

    Attributes:
        seconds: from the first worker to the last part.
        deaths: workers that were killed.
        claims: parts that workers took, and `claim_seconds` the processor time of that, with looks that found none.
        lists: times that workers listed the parts.
        memory: MiB that this process occupied, after a quarter of the parts and at the end.
    """

    seconds: float = 0.0
    deaths: int = 0
    claims: int = 0
    claim_seconds: float = 0.0
    lists: int = 0
    memory: list[float] = field(default_factory=list)


@cache
def answers(rows: int) -> pa.Table:
    """The answers of a part, all parts having the same ones but for their first column."""
    now = datetime.now(UTC)
    return pa.table(
        {
            "response": [f"an answer of a few words, the one of row {n}" for n in range(rows)],
            "finish_reason": ["stop"] * rows,
            "input_tokens": pa.array([40] * rows, pa.int32()),
            "output_tokens": pa.array([12] * rows, pa.int32()),
            "created_at": pa.array([now] * rows, pa.timestamp("us", "UTC")),
        }
    )


def part_table(number: int, rows: int) -> pa.Table:
    first = number * rows
    return answers(rows).add_column(0, "index", pa.array(range(first, first + rows), pa.int64()))


def work(folder: RunFolder, load: Load, dies_after: int) -> None:
    """Make parts until none is left; be killed with a claimed part in hand after some."""
    store = SharedPartStore(folder, compression="zstd")
    lists = 0

    def missing() -> list[int]:
        nonlocal lists
        lists += 1
        sealed = store.numbers()
        return [number for number in range(load.parts) if number not in sealed]

    def note() -> None:
        content = {"claims": taken, "seconds": spent, "lists": lists}
        (folder.path / f"worker-{os.getpid()}.json").write_text(json.dumps(content))

    spent, taken = 0.0, 0
    with join(folder, Shard(), {}) as member:
        claims = PartClaims(
            FolderClaims(folder),
            member.name,
            missing=missing,
            is_sealed=store.is_sealed,
            clock=time.monotonic,
            expiry=EXPIRY_SECONDS,
        )
        part: int | None = 0
        while part is not None or claims.others:
            began = time.process_time()  # there are more workers than cores
            part = claims.take()
            spent, taken = spent + time.process_time() - began, taken + (part is not None)
            if taken > dies_after:
                note()
                os.kill(os.getpid(), signal.SIGKILL)
            if part is None:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            else:
                store.seal(part, part_table(part, load.rows))
    note()


def start(folder: RunFolder, load: Load, chance: random.Random) -> int:
    dies_after = chance.randint(LEAST_PARTS, MOST_PARTS)
    if process := os.fork():
        return process
    code = 1
    try:
        work(folder, load, dies_after)
        code = 0
    except BaseException:  # noqa: BLE001  the process ends here, without Python's own report
        traceback.print_exc()
    finally:
        os._exit(code)


def simulate(folder: RunFolder, load: Load, seed: int = 7) -> Outcome:
    """Make all parts."""
    chance, found = random.Random(seed), Outcome()
    folder.create()
    answers(load.rows)  # once, for all processes
    began = time.monotonic()
    running = {start(folder, load, chance) for _ in range(load.workers)}
    counter = SealedCounter(SharedPartStore(folder, compression="zstd"), lambda _: 0)
    while running:
        counter.look()
        if len(counter.numbers) >= (len(found.memory) + 1) * load.parts / 4:
            found.memory.append(resident_mib())
        for process in list(running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                continue
            running.discard(process)
            if os.waitstatus_to_exitcode(status) == 0:
                continue
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            found.deaths += 1
            running.add(start(folder, load, chance))
        time.sleep(0.05)
    found.seconds = time.monotonic() - began
    found.memory.append(resident_mib())
    for path in folder.path.glob("worker-*.json"):
        note = json.loads(path.read_text())
        found.claims += note["claims"]
        found.claim_seconds += note["seconds"]
        found.lists += note["lists"]
    return found


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def check(folder: RunFolder, load: Load) -> None:
    """Every part is there once, with its own rows."""
    store = SharedPartStore(folder, compression="zstd")
    sealed = store.sealed()
    assert sorted(sealed) == list(range(load.parts))
    for number, part in sealed.items():
        assert read_part(part.path).equals(part_table(number, load.rows))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parts", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=64)
    options = parser.parse_args()
    load = Load(options.parts, options.rows, options.workers)
    folder = RunFolder(options.folder.absolute())
    found = simulate(folder, load)
    check(folder, load)
    each = 1000 * found.claim_seconds / max(1, found.claims)
    sys.stdout.write(json.dumps({**asdict(found), "claim_milliseconds": each}) + "\n")


if __name__ == "__main__":
    main()
