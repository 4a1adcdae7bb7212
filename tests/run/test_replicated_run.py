"""A run with several replicas: the same output, whatever happens to one of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from batchgen.errors import DeathError
from batchgen.jobfile.load import load_job
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.run.run import run
from tests.engines.replicas.fake_engines import MARK, opener, slow_text, text_of_the_dying
from tests.soak.harness import OF_THE_RUN

MakeJob = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]
ROWS = 400


def job_of(make_job: MakeJob) -> Path:
    rows = [{"q": f"{MARK if n == 150 else 'harmless'} {n}"} for n in range(ROWS)]
    return make_job(rows, batching={"part_rows": 100})


def uninterrupted(job: Path) -> pl.DataFrame:
    """The answers of one engine in this process."""
    return run(load_job(job, overrides=["output.path=uninterrupted"])).frame()


def same(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    return one.drop(OF_THE_RUN).equals(other.drop(OF_THE_RUN))


def test_replicas_give_the_output_of_one_engine(make_job: MakeJob) -> None:
    job = job_of(make_job)
    result = run(load_job(job), opener=opener(ByteTokenizer().decode))
    assert result.engine["workers"] == 2
    assert same(result.frame(), uninterrupted(job))


def test_a_replica_that_is_killed_ends_the_run_and_the_next_start_completes_it(
    make_job: MakeJob, tmp_path: Path
) -> None:
    job = job_of(make_job)
    fragile = opener(partial(text_of_the_dying, tmp_path / "died"))
    with pytest.raises(DeathError, match="on place"):
        run(load_job(job), opener=fragile)
    result = run(load_job(job), opener=fragile)
    assert 0 < result.resumed_rows < ROWS
    assert same(result.frame(), uninterrupted(job))


STOPPED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.progress import ConsoleReporter
from batchgen.run.stop_signals import InterruptibleOpener, handle_stop_signals
from tests.engines.replicas.fake_engines import opener, slow_text
with handle_stop_signals() as stop:
    result = run(load_job(Path(sys.argv[1])), opener=InterruptibleOpener(opener(slow_text), stop), reporter=ConsoleReporter(sys.stdout), stop=stop)
    print(result.outcome, result.counts.rows, flush=True)
    stop.end_by_signal()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.soak), signal.SIGTERM]
)
def test_a_signal_to_the_process_group_stops_all_and_the_next_start_resumes(
    number: signal.Signals, make_job: MakeJob
) -> None:
    job = job_of(make_job)
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED.format(root=str(ROOT)), str(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        sealed = job.parent / "out" / ".batchgen" / "parts"
        while process.poll() is None and not list(sealed.glob("*.bgpart")):
            time.sleep(0.01)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == -number, err
    assert err == "\nstopping at the next step; once more to stop at once\n"
    outcome, saved = out.split()[-2:]
    assert (outcome, 100 <= int(saved) < ROWS) == ("stopped", True)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    result = run(load_job(job), opener=opener(slow_text))
    assert result.resumed_rows == int(saved)
    assert same(result.frame(), uninterrupted(job))
