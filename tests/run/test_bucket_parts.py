"""Parts in a bucket of a real S3 server: another machine, with an empty disk, resumes the run."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.storage.failpoints import VARIABLE
from tests.conftest import MakeJob
from tests.object_store import FaultyStore, Rule

ROWS = [{"q": f"row {n}"} for n in range(40)]
STATE = "pub/.batchgen/"


def parts_job(make_job: MakeJob, store: FaultyStore, **more: Any) -> Path:
    output = {"path": "out", "upload": store.address("pub"), "upload_parts": True}
    return make_job(ROWS, output=output, batching={"part_rows": 5}, **more)


def lose_the_disk(job: Path) -> None:
    shutil.rmtree(job.parent / "out")


def started(job: Path, steps: int) -> RunResult:
    """A start that is stopped after some steps."""
    left = iter(range(steps))
    return run(job, stop=lambda: next(left, None) is None)


def state(store: FaultyStore) -> list[str]:
    return [key.removeprefix(STATE) for key in store.listing() if key.startswith(STATE)]


def answers(job: Path) -> list[str]:
    table = pl.read_parquet(job.parent / "out" / "responses.parquet")
    assert table["run_id"].n_unique() == 1
    return table["response"].to_list()


def test_another_machine_resumes_the_run(make_job: MakeJob, object_store: FaultyStore) -> None:
    job = parts_job(make_job, object_store)
    first = started(job, 12)
    assert first.outcome == "stopped"
    saved = [key for key in state(object_store) if key.endswith(".bgpart")]
    assert 0 < len(saved) < 8
    lose_the_disk(job)
    second = run(job)
    assert second.run_id == first.run_id
    assert second.resumed_rows == 5 * len(saved)
    assert answers(job) == [row["q"] for row in ROWS]
    assert state(object_store) == []
    assert json.loads(object_store.get("pub/manifest.json"))["run_id"] == first.run_id


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("part.after_link:3", marks=pytest.mark.slow),
        pytest.param("part.before_link:3", marks=pytest.mark.soak),
        pytest.param("run.before_rename", marks=pytest.mark.soak),
        pytest.param("clean.half", marks=pytest.mark.soak),
        pytest.param("upload.before_manifest", marks=pytest.mark.soak),
        pytest.param("upload.after_manifest", marks=pytest.mark.soak),
    ],
)
def test_a_machine_that_dies_is_replaced(
    make_job: MakeJob, object_store: FaultyStore, point: str
) -> None:
    job = parts_job(make_job, object_store)
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--quiet"]
    died = subprocess.run(command, env=os.environ | {VARIABLE: point}, check=False)
    assert died.returncode == -9
    lose_the_disk(job)
    run(job)
    assert answers(job) == [row["q"] for row in ROWS]
    assert state(object_store) == []


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Rule("lose the answer", "PUT", "00002.bgpart"), id="lost answer"),
        pytest.param(Rule("answer", "PUT", "00002.bgpart", 2, 503), id="503"),
        pytest.param(Rule("answer", "PUT", "00002.bgpart", 1, 409, "Conflict"), id="409"),
        pytest.param(Rule("lose the answer", "PUT", "run.json"), id="lost answer to run.json"),
    ],
)
def test_passing_faults_are_survived(
    make_job: MakeJob, object_store: FaultyStore, rule: Rule
) -> None:
    job = parts_job(make_job, object_store)
    object_store.rules.append(rule)
    run(job)
    assert rule.count == 0
    assert answers(job) == [row["q"] for row in ROWS]


def test_credentials_that_expire_cost_no_answer(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = parts_job(make_job, object_store)
    object_store.rules.append(Rule("answer", "PUT", "00003.bgpart", 99, 400, "ExpiredToken"))
    assert call(["run", str(job)]) == 5
    assert "rejected the credentials" in capfd.readouterr().err
    object_store.rules.clear()
    result = run(job)
    assert result.resumed_rows >= 20
    assert answers(job) == [row["q"] for row in ROWS]


def test_a_part_that_another_machine_sealed_is_taken_over(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    """While this machine computes a part, another one, which was believed dead, seals it."""
    job = parts_job(make_job, object_store)
    assert started(job, 30).outcome == "stopped"
    part = next(key for key in state(object_store) if key.endswith("00003.bgpart"))
    content = object_store.get(STATE + part)
    object_store.delete(STATE + part)
    lose_the_disk(job)
    race = Rule("none", "PUT", "00003.bgpart")
    race.then = lambda: object_store.put(STATE + part, content, sealed=True)
    object_store.rules.append(race)
    run(job)
    assert race.count == 0
    assert answers(job) == [row["q"] for row in ROWS]
    made = pl.read_parquet(job.parent / "out" / "responses.parquet")["created_at"][15:20]
    assert made.to_list() == pl.read_parquet(io.BytesIO(content))["created_at"].to_list()


def test_a_store_that_ignores_conditions_is_refused(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    object_store.rules.append(Rule("ignore conditions", "PUT", count=999))
    assert call(["run", str(parts_job(make_job, object_store))]) == 5
    assert "ignores conditions of a put" in capfd.readouterr().err


def test_another_job_does_not_resume_the_run(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = parts_job(make_job, object_store)
    started(job, 12)
    lose_the_disk(job)
    parts_job(make_job, object_store, run={"seed": 7})
    assert call(["run", str(job)]) == 6
    assert (
        f"{object_store.address('pub')}/.batchgen was made by another job: run.seed"
        in capfd.readouterr().err
    )
    fresh = run(job, start="fresh")
    assert fresh.outcome == "done"
    assert answers(job) == [row["q"] for row in ROWS]


def test_a_damaged_part_is_named(
    make_job: MakeJob, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    job = parts_job(make_job, object_store)
    started(job, 12)
    part = next(key for key in state(object_store) if key.endswith("00000.bgpart"))
    lose_the_disk(job)
    object_store.put(STATE + part, b"damaged")
    assert call(["run", str(job)]) == 6
    assert f"{object_store.address(STATE + part)} is damaged" in capfd.readouterr().err
    object_store.delete(STATE + part)
    run(job)
    assert answers(job) == [row["q"] for row in ROWS]


def test_parts_need_an_address(make_job: MakeJob, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(make_job(ROWS, output={"path": "out", "upload_parts": True}))]) == 2
    assert "upload_parts has no effect without output.upload" in capfd.readouterr().err
