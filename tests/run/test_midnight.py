"""`${date}` in output.path: a run that stopped before midnight is resumed after it, and named."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder, read_json

MakeJob = Callable[..., Path]


def today() -> date:
    return datetime.now().astimezone().date()


ROWS = [{"id": str(n), "q": f"question {n}"} for n in range(8)]


def dated(make_job: MakeJob, **sections: Any) -> Path:
    changes = {"output": {"path": "out/${date}"}, "batching": {"part_rows": 2}, **sections}
    return make_job(ROWS, **changes)


def stop(job: Path, day: date) -> RunFolder:
    """Stop a run of some day after a few answers."""
    calls = iter(range(3))
    result = run(load_job(job, date=day), stop=lambda: next(calls, None) is None)
    assert result.outcome == "stopped"
    return result.folder


@pytest.mark.parametrize("days", [1, 30])
def test_the_newest_stopped_run_is_resumed_and_named(
    days: int, make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = dated(make_job)
    stop(job, today() - timedelta(days + 1))
    folder = stop(job, today() - timedelta(days))
    for command in ("plan", "run"):
        assert call([command, str(job)]) == 0
        printed = capsys.readouterr().err
        assert (
            f"resuming the stopped run of {today() - timedelta(days)} in {folder.path}" in printed
        )
        assert "--fresh" in printed
    assert folder.complete
    assert not (folder.path.parent / str(today())).exists()


def test_a_stopped_run_before_a_published_one_is_left_alone(make_job: MakeJob) -> None:
    job = dated(make_job)
    stopped = stop(job, today() - timedelta(2))
    assert call(["run", str(job), "-q", "--date", str(today() - timedelta(1))]) == 0
    assert call(["run", str(job), "-q"]) == 0
    assert not stopped.complete
    assert RunFolder(stopped.path.parent / str(today())).complete


def test_fresh_and_date_start_that_of_their_day(make_job: MakeJob) -> None:
    job = dated(make_job)
    folder = stop(job, today() - timedelta(1))
    assert call(["run", str(job), "-q", "--fresh"]) == 0
    assert call(["run", str(job), "-q", "--date", "2026-01-02"]) == 0
    assert not folder.complete
    # Today's run is complete now, and is what this command means.
    assert call(["run", str(job), "-q"]) == 0
    assert not folder.complete
    assert sorted(path.name for path in folder.path.parent.iterdir()) == sorted(
        ["2026-01-02", str(today() - timedelta(1)), str(today())]
    )


def withhold(folder: RunFolder) -> None:
    folder.staged.mkdir()
    folder.write_json(folder.withheld, {"run_id": "x", "why": []}, stage="withheld")


def change_input(folder: RunFolder) -> None:
    path = folder.path.parent.parent / "rows.jsonl"
    path.write_text(json.dumps({"id": "x", "q": "new"}) + "\n", "utf-8")


def change_prompt(folder: RunFolder) -> None:
    path = folder.path.parent.parent / "job.yaml"
    path.write_text(path.read_text("utf-8").replace("{{ q }}", "Say {{ q }}"), "utf-8")


OTHERS: dict[str, tuple[Callable[[RunFolder], object], str]] = {
    "another prompt": (change_prompt, "is not resumed: "),
    "another input": (change_input, "is not resumed: "),
    "withheld by a gate": (withhold, ""),
    "no run": (lambda folder: shutil.rmtree(folder.private), ""),
}


@pytest.mark.parametrize(("change", "expected"), OTHERS.values(), ids=OTHERS.keys())
def test_a_run_that_is_not_a_stopped_one_of_this_job_is_left_alone(
    change: Callable[[RunFolder], object],
    expected: str,
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = dated(make_job)
    folder = stop(job, today() - timedelta(1))
    change(folder)
    assert call(["run", str(job)]) == 0
    printed = capsys.readouterr().err
    assert expected in printed
    assert "resuming the stopped run" not in printed
    assert RunFolder(folder.path.parent / str(today())).complete


def test_a_running_run_is_not_taken_for_a_stopped_one(make_job: MakeJob) -> None:
    job = dated(make_job)
    folder = stop(job, today() - timedelta(1))
    with hold_lock(folder.lock):
        assert call(["run", str(job), "-q"]) == 0
    assert not folder.complete
    assert RunFolder(folder.path.parent / str(today())).complete


def test_the_date_in_prompts_is_that_of_the_first_start(make_job: MakeJob) -> None:
    job = dated(make_job, vars={"day": "${date}"}, input={"filter": "q <> '${vars.day}'"})
    yesterday = today() - timedelta(1)
    folder = stop(job, yesterday)
    assert call(["run", str(job), "-q"]) == 0
    assert read_json(folder.manifest)["settings"]["input"]["filter"] == f"q <> '{yesterday}'"


@pytest.mark.slow
def test_a_stop_before_midnight_and_a_start_after_it(make_job: MakeJob) -> None:
    """With the clock of the machine, and with the command that the stopped run prints."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("needs faketime")
    job = dated(make_job)

    def batchgen(clock: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [faketime, clock, sys.executable, "-m", "batchgen", *words]
        # Only the clock is another one: with a faked monotonic clock, waiting threads never wake.
        environment = os.environ | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=120, check=False
        )

    stopped = batchgen("2026-03-01 23:50:00", "run", str(job), "--set", "run.max_runtime=0s")
    assert stopped.returncode == 75, stopped.stderr
    assert f"batchgen run {job} -s run.max_runtime=0s --date 2026-03-01" in stopped.stderr
    resumed = batchgen("2026-03-02 00:10:00", "run", str(job))
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming the stopped run of 2026-03-01" in resumed.stderr
    out = job.parent / "out"
    assert [path.name for path in out.iterdir()] == ["2026-03-01"]
    assert RunFolder(out / "2026-03-01").complete
