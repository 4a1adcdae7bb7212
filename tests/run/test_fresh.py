"""`--fresh`: the old run stays published until the new one is, and is kept as a whole in a sibling of the folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.errors import JobFileError
from batchgen.inspection.status import status
from batchgen.jobfile.load import load_job
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

MakeJob = Callable[..., Path]
ROWS = [{"id": str(n), "q": f"question {n}"} for n in range(6)]
NEW = ["prompt.user='New: {{ q }}'"]


@pytest.fixture
def published(make_job: MakeJob) -> tuple[Path, RunResult]:
    """A job, and its complete run."""
    job = make_job(ROWS, batching={"part_rows": 2}, evaluate={"metrics": ["length"]})
    return job, run(load_job(job))


def stop_fresh(job: Path) -> RunResult:
    calls = iter(range(2))
    loaded = load_job(job, overrides=NEW)
    stopped = run(loaded, start="fresh", stop=lambda: next(calls, None) is None)
    assert stopped.outcome == "stopped"
    return stopped


def test_the_old_answers_stay_until_the_new_ones_are_published(
    published: tuple[Path, RunResult],
) -> None:
    job, old = published
    answers = old.frame()
    stopped = stop_fresh(job)
    assert pl.read_parquet(old.folder.responses).equals(answers)
    assert status(old.folder.path).run_id == stopped.run_id

    done = run(load_job(job, overrides=NEW))
    assert (done.outcome, done.run_id) == ("done", stopped.run_id)
    assert done.resumed_rows > 0
    assert done.frame()["response"].str.starts_with("New: ").all()
    aside = RunFolder(old.folder.path.with_name("out.old-1"))
    assert pl.read_parquet(aside.responses).equals(answers)
    for folder in (aside, done.folder):
        assert call(["verify", str(folder.path)]) == 0
        assert call(["show", str(folder.path)]) == 0
    # The old run is a run like any other: it can be resumed in its place.
    assert run(load_job(job, overrides=["output.path=out.old-1"])).outcome == "already complete"


def test_a_second_fresh_start_keeps_the_published_run_in_one_piece(
    published: tuple[Path, RunResult],
) -> None:
    job, old = published
    answers = old.frame()
    first, second = stop_fresh(job), stop_fresh(job)
    assert first.run_id != second.run_id
    assert run(load_job(job, overrides=NEW)).run_id == second.run_id
    assert pl.read_parquet(old.folder.path.with_name("out.old-1") / "responses.parquet").equals(
        answers
    )
    assert call(["verify", str(old.folder.path.with_name("out.old-1"))]) == 0
    assert not RunFolder(old.folder.path.with_name("out.old-2")).complete


def test_a_job_that_cannot_start_leaves_the_old_run(published: tuple[Path, RunResult]) -> None:
    job, old = published
    with pytest.raises(JobFileError):
        run(load_job(job, overrides=["prompt.user='{{ missing }}'"]), start="fresh")
    assert run(load_job(job)).outcome == "already complete"
    assert [path.name for path in old.folder.path.parent.glob("out*")] == ["out"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("release.before_rename:1", marks=pytest.mark.soak),
        "release.after_rename:1",
        pytest.param("publish.before_rename:1", marks=pytest.mark.soak),
        "publish.after_rename:1",
        pytest.param("publish.after_rename:2", marks=pytest.mark.soak),
        pytest.param("manifest.before_rename:1", marks=pytest.mark.soak),
        "manifest.after_rename:1",
        pytest.param("run.before_rename:1", marks=pytest.mark.soak),
    ],
)
def test_a_kill_at_any_step_loses_no_run(point: str, published: tuple[Path, RunResult]) -> None:
    job, old = published
    answers = old.frame()
    command = [sys.executable, "-m", "batchgen", "run", str(job), "-q", "-s", NEW[0]]
    environment = os.environ | {"BATCHGEN_FAIL_AT": point}
    killed = subprocess.run([*command, "--fresh"], env=environment, timeout=120, check=False)
    assert killed.returncode < 0, "killed by the fail point"
    found = [
        folder
        for name in ("out", "out.old-1")
        if (folder := RunFolder(old.folder.path.with_name(name))).responses.exists()
    ]
    assert any(pl.read_parquet(folder.responses).equals(answers) for folder in found)
    assert subprocess.run(command, timeout=120, check=False).returncode == 0
    new = pl.read_parquet(old.folder.responses)
    assert new["response"].str.starts_with("New: ").all()
    aside = old.folder.path.with_name("out.old-1")
    assert pl.read_parquet(aside / "responses.parquet").equals(answers)
    for path in (aside, old.folder.path):
        assert call(["verify", str(path)]) == 0
