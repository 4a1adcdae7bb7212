"""Memory and processor time of reusing and comparing many rows."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

FEW, MANY = 100_000, 300_000
"""Numbers of rows. Up to about 100,000 memory grows with the row groups that are cached, of which there are four at most."""
MAX_GROWTH_MIB = 60
"""Largest growth of the resident memory from few to many rows, with room for what an allocator keeps."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor time, and the largest resident memory."""

    seconds: float
    mib: float


def measure(folder: Path, *arguments: str) -> Usage:
    command = [sys.executable, "-m", "batchgen", *arguments]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "log").read_text()
    return Usage(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def write_job(folder: Path, rows: int) -> str:
    numbers = pl.DataFrame({"n": range(rows)})
    table = numbers.select(
        pl.format("row {}", "n").alias("id"),
        pl.format("question number {}", "n").alias("q"),
        pl.format("question number {}", pl.col("n") % 3).alias("label"),
    )
    table.write_parquet(folder / f"{rows}.parquet")
    name = f"{rows}.yaml"
    job = f"""version: 1
name: n{rows}
input: {{path: {rows}.parquet}}
prompt: {{user: "{{{{ q }}}}"}}
model: {{engine: echo}}
decoding: {{max_new_tokens: 16}}
output: {{path: out}}
"""
    (folder / name).write_text(job)
    return name


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the usage of a child process")
def test_memory_and_time_of_many_rows(tmp_path: Path) -> None:
    few, many = write_job(tmp_path, FEW), write_job(tmp_path, MANY)
    answered, reused, compared = {}, {}, {}
    scores = ["--metric", "exact", "--metric", "cer", "--reference", "label"]  # and a corpus metric
    for job in (few, many):
        one, two = f"{job}.1", f"{job}.2"
        answered[job] = measure(tmp_path, "run", job, "-o", one)
        reused[job] = measure(tmp_path, "run", job, "-o", two, "--incremental-from", one)
        for run in (one, two):
            measure(tmp_path, "score", run, *scores)
        compared[job] = measure(tmp_path, "compare", one, two)
    # What both sizes need, such as imports, cancels out.
    slow, fast = (used[many].seconds - used[few].seconds for used in (answered, reused))
    assert slow / fast >= 4  # 5 to 6 when nothing else runs: both include the start of the process
    for used in (reused, compared):
        assert used[many].mib - used[few].mib <= MAX_GROWTH_MIB
