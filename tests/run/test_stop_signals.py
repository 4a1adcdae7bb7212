"""Stopping a run early: signals and deadlines, and the exit of the process."""

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from datetime import time as time_of_day
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from batchgen.__main__ import call
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import ExitCode, JobFileError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.run.stop_signals import (
    InterruptibleOpener,
    StopRequest,
    deadline_after,
    deadline_at,
)
from batchgen.section import parse_duration
from tests.run.wrapped_engines import meddling

MakeJob = Callable[..., Path]
ROWS = [{"q": f"row {n}"} for n in range(40)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("90m", 5400), ("5h30m", 19_800), ("1d2h3m4s", 93_784), ("0s", 0)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "5 h", "1.5h", "h", "", "-5m", "5h 30m", "PT5H"])
def test_what_is_not_a_duration_is_rejected(make_job: MakeJob, text: str) -> None:
    with pytest.raises(JobFileError, match="max_runtime"):
        load_job(make_job(ROWS, run={"max_runtime": text}))


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> ZoneInfo:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    return ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "clock", "hours"),
    [
        pytest.param("2026-01-10T22:00", "06:00", 8, id="tomorrow"),
        pytest.param("2026-01-10T05:00", "06:00", 1, id="today"),
        pytest.param("2026-01-10T06:00", "06:00", 24, id="now is tomorrow"),
        pytest.param("2026-03-28T22:00", "06:00", 7, id="clocks go forward"),
        pytest.param("2026-10-24T22:00", "06:00", 9, id="clocks go back"),
    ],
)
def test_a_time_of_the_day_is_the_next_one(
    berlin: ZoneInfo, now: str, clock: str, hours: float
) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=berlin)
    deadline = deadline_at(time_of_day.fromisoformat(clock), at)
    assert deadline.at - time.monotonic() == pytest.approx(hours * 3600, abs=5)
    assert clock in deadline.reason


def test_a_run_stops_at_its_deadline_and_resumes(make_job: MakeJob) -> None:
    job = load_job(make_job(ROWS, run={"max_runtime": "1s"}))
    stopped = run(job, opener=meddling(20, lambda: time.sleep(1.1)))
    assert stopped.outcome == "stopped"
    assert stopped.exit_code == ExitCode.RUN_AGAIN
    assert stopped.why_stopped == "run.max_runtime (1s) is over"
    assert 0 < stopped.counts.rows < 40
    resumed = run(load_job(job.file, overrides=["run.max_runtime=null"]))
    assert resumed.outcome == "done"
    assert resumed.resumed_rows == stopped.counts.rows


def test_answers_that_are_complete_at_the_deadline_are_published(make_job: MakeJob) -> None:
    result = run(load_job(make_job(ROWS[:1])), deadlines=[deadline_after(0, "over")])
    assert result.outcome == "done"


def test_the_command_ends_with_75_and_names_how_to_resume(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS))
    assert call(["run", job, "--set", "run.max_runtime=0s"]) == 75
    err = capsys.readouterr().err
    assert "STOPPED run.max_runtime (0s) is over: " in err
    assert f"resume batchgen run {job} -s run.max_runtime=0s" in err
    assert call(["run", job, "--until", "25:00"]) == 2
    assert "HH:MM" in capsys.readouterr().err
    assert call(["run", job, "--until", "06:00"]) == 0


WAITING = """
import ctypes, sys, time
from batchgen.run.stop_signals import handle_stop_signals
with handle_stop_signals() as stop:
    with stop.ending_at_once():
        if sys.argv[1] == "load":
            print("ready", flush=True)
            ctypes.CDLL(None).sleep(60) if sys.argv[2] == "library" else time.sleep(60)
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    print("saved", flush=True)
    if sys.argv[1] == "hang":
        time.sleep(60)
    stop.end_by_signal()
print("not reached", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_cleanly_and_ends_the_process(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "end"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert out == "saved\n"
    assert "once more to stop at once" in err
    assert process.returncode == -number


@pytest.mark.timing
@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_run_whose_templates_take_long(
    make_job: MakeJob, number: signal.Signals
) -> None:
    """Each row's template runs to its limit on work, about a second: all rows of the part would take minutes."""
    slow = "{% for i in range(99999) %}{% set x = range(9999) | sort(reverse=true) %}{% endfor %}"
    rows = [{"q": f"row {n}"} for n in range(300)]
    job = make_job(rows, prompt={"user": slow + "{{ q }}"})
    command = [sys.executable, "-m", "batchgen", "run", str(job)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "no model to load" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(1)
        process.send_signal(number)
        sent = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == -number
    assert "STOPPED" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["python", "library"])
def test_while_a_model_is_loaded_the_first_signal_ends_the_process_at_once(
    number: signal.Signals, where: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "load", where],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)  # until it is in the long call
        process.send_signal(number)
        process.communicate(timeout=5)
    assert process.returncode == -number


def test_a_request_made_before_a_model_is_loaded_ends_the_process() -> None:
    waits_then_loads = WAITING.replace(
        'print("saved", flush=True)', "stop.ending_at_once().__enter__()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waits_then_loads, "hang"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)
    assert process.returncode == -signal.SIGTERM


def test_an_opener_is_pickled_without_its_signals() -> None:
    opener = InterruptibleOpener(open_engine, StopRequest(handled=[signal.SIGTERM]))
    assert pickle.loads(pickle.dumps(opener)) is open_engine


def test_the_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "hang"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT


def test_nohup_is_respected() -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-c", WAITING, "end"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM


def test_signal_handlers_are_restored() -> None:
    from batchgen.run.stop_signals import handle_stop_signals

    before = signal.getsignal(signal.SIGTERM)
    with handle_stop_signals() as stop:
        assert not stop()
        with stop.ending_at_once():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert callable(signal.getsignal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is before
