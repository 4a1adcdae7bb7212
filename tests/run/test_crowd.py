"""Several runs that start at the same time on one machine, and signals while a model is loaded: real processes.

Processor time is measured, not time on the clock: other work on the machine changes it little.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

MakeJob = Callable[..., Path]

RUNS = 8
QUESTIONS = [
    {"q": "What is the capital of France?"},
    {"q": "Name three colours of the rainbow."},
]
_MEMORY_PER_RUN = 1.5e9
"""Bytes; measured with the demo model: weights, their packed copy, libraries."""

pytestmark = [pytest.mark.soak]


@pytest.fixture
def cache(demo_folder: Path, tmp_path: Path) -> Path:
    """A cache that has the model, but no result of a probe and no hash."""
    cache = tmp_path / "cache"
    (cache / "models").mkdir(parents=True)
    (cache / "models" / demo_folder.name).symlink_to(demo_folder)
    return cache


def start(job: Path, cache: Path, output: str) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "BATCHGEN_CACHE": str(cache)}
    # As users run it: the settings of the test machine may hide threads that spin.
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        environment.pop(name, None)
    with (job.parent / f"{output}.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "batchgen",
                "run",
                str(job),
                "--output",
                str(job.parent / output),
            ],
            env=environment,
            stdout=log,
            stderr=log,
        )


def processor_seconds(processes: Callable[[], Sequence["subprocess.Popen[bytes]"]]) -> float:
    """Processor time of the processes that a call starts, with their children, until all have ended well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert [process.wait(timeout=1200) for process in processes()] == [0] * RUNS
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def one_after_another(job: Path, cache: Path) -> Iterator["subprocess.Popen[bytes]"]:
    for number in range(RUNS):
        process = start(job, cache, f"alone-{number}")
        process.wait(timeout=600)
        yield process


@pytest.mark.timing
def test_runs_that_start_together_take_the_processor_time_of_as_many_single_runs(
    make_job: MakeJob, cache: Path
) -> None:
    needed = RUNS * _MEMORY_PER_RUN
    if (available := os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) < needed:
        pytest.skip(f"needs {needed / 1e9:.0f} GB of free memory, has {available / 1e9:.1f}")
    job = make_job(QUESTIONS, model="demo:smollm2-135m", decoding={"max_new_tokens": 24})
    together = processor_seconds(
        lambda: [start(job, cache, f"together-{number}") for number in range(RUNS)]
    )
    # One process probed, the others waited for its result: all name the same moment.
    assert len(list((cache / "tiers").glob("*.json"))) == 1
    shutil.rmtree(cache / "tiers")
    alone = processor_seconds(lambda: list(one_after_another(job, cache)))
    assert together < 1.6 * alone, f"{together:.0f} s together, {alone:.0f} s one after another"
    answers = {
        tuple(pl.read_parquet(job.parent / f"{how}-{number}" / "responses.parquet")["response"])
        for how in ("together", "alone")
        for number in range(RUNS)
    }
    assert len(answers) == 1


@pytest.mark.timing
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds_in", [0.2, 3.0])
def test_a_signal_while_a_model_is_loaded_and_probed_ends_all_runs(
    number: signal.Signals, seconds_in: float, make_job: MakeJob, cache: Path
) -> None:
    job = make_job(QUESTIONS, model="demo:smollm2-135m", decoding={"max_new_tokens": 24})
    processes = [start(job, cache, f"run-{each}") for each in range(3)]
    logs = [job.parent / f"run-{each}.log" for each in range(3)]
    while not all(b"loading" in log.read_bytes() for log in logs):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    time.sleep(seconds_in)
    if any(b"rows in flight" in log.read_bytes() for log in logs):
        pytest.skip("the machine loads a model faster than the signal is sent")
    sent = time.monotonic()
    for process in processes:
        process.send_signal(number)
    codes = [process.wait(timeout=30) for process in processes]
    assert time.monotonic() - sent < 5
    assert codes == [-number] * 3
    resumed = start(job, cache, "run-0")
    assert resumed.wait(timeout=600) == 0
    assert pl.read_parquet(job.parent / "run-0" / "responses.parquet").height == len(QUESTIONS)
