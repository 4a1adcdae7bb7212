"""Kills from outside, at random moments of short starts with the real model: no row is condemned, rows are equal."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, count, repeat
from pathlib import Path

import polars as pl
import pytest
import yaml

KILLS = 10
ROWS = 64
COLUMNS = ["id", "response", "finish_reason", "output_tokens", "row_fingerprint", "error_code"]


def start(job: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "batchgen", "run", str(job), "-q", *options]
    null = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=null, stdout=null, stderr=null, start_new_session=True, env={**os.environ}
    )


def answers(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "responses.parquet", glob=False)[COLUMNS]


def run_until_finished(
    job: Path, folder: Path, limits: Iterator[float], kill: Callable[[int, int], None]
) -> tuple[int, float]:
    """Kill each start of a run after its limit in seconds: the number of kills, and the seconds of all starts."""
    spent = 0.0
    for kills in count():
        begin = time.monotonic()
        process = start(job, "-o", str(folder))
        try:
            process.wait(next(limits))
        except subprocess.TimeoutExpired:
            kill(process.pid, signal.SIGKILL)
            process.wait()
        spent += time.monotonic() - begin
        if process.returncode == 0:
            return kills, spent
        assert process.returncode == -signal.SIGKILL
    raise AssertionError("unreachable")


@pytest.mark.soak
@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["process", "group"])
def test_kills_from_outside_condemn_no_row(
    kill: Callable[[int, int], None], tmp_path: Path, demo_folder: Path
) -> None:
    lines = [json.dumps({"q": f"Write {n + 2} words about the number {n}."}) for n in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    job = tmp_path / "job.yaml"
    content = {
        "version": 1,
        "name": "killed",
        "input": {"path": "rows.jsonl"},
        "prompt": {"user": "{{ q }}"},
        "model": str(demo_folder),
        "decoding": {"max_new_tokens": 24},
        "batching": {"part_rows": 16},
        "output": {"path": "unused"},
    }
    job.write_text(yaml.safe_dump(content))
    begin = time.monotonic()
    assert start(job, "-o", str(tmp_path / "whole")).wait(300) == 0
    undisturbed = time.monotonic() - begin
    expected = answers(tmp_path / "whole")
    chance, left, quickest = random.Random(7), KILLS, undisturbed
    for number in count():
        folder = tmp_path / f"killed-{number}"
        shortened = (chance.uniform(0.3, 1.0) * quickest for _ in range(left))
        kills, spent = run_until_finished(job, folder, chain(shortened, repeat(300.0)), kill)
        assert answers(folder).equals(expected)
        # A kill costs at most the start that it ended; what is in flight afterwards is answered in batches.
        assert spent < (kills + 3) * undisturbed
        sys.stdout.write(f"{kills} kills: {spent / undisturbed:.1f} times an undisturbed run\n")
        left -= kills
        if left <= 0:
            return
        if kills == 0:  # the machine is quicker than it was: the next start is to be killed
            quickest = spent
