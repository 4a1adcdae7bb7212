"""Shards that share a bucket of a real S3 server, and no disk: each has a folder of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError, StateError, UsageError
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor, check_begun
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.bucket_state import open_parts_home
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.bucket_shards import SharedBucketParts
from batchgen.state.shards.shard import Shard, parse_shard
from batchgen.storage.failpoints import VARIABLE
from tests.conftest import MakeJob
from tests.object_store import FaultyStore, Rule
from tests.run.shards.counted_models import JUDGED, CountedModels, cached_results

ROWS = [{"q": f"row {n}"} for n in range(40)]
STATE = "pub/.batchgen/"
MERGER = "merger"


@pytest.fixture
def job(make_job: MakeJob, object_store: FaultyStore) -> Path:
    output = {"path": "out", "upload": object_store.address("pub"), "upload_parts": True}
    return make_job(ROWS, output=output, batching={"part_rows": 5})


def on(machine: str, job: Path, *overrides: str) -> LoadedJob:
    """The job on a machine with an empty disk."""
    return load_job(job, overrides=[f"output.path={machine}", *overrides])


def merge(job: Path, models: EngineOpener = open_engine) -> RunResult:
    loaded = on(MERGER, job)
    executor = NoExecutor(RunFolder(Path(loaded.job.output.path)))
    return run(loaded, executor=executor, opener=models)


def check(job: Path, store: FaultyStore) -> dict[str, Any]:
    """Publish: the rows are whole and of one run, and no state is left. Returns the manifest."""
    done = merge(job)
    assert done.outcome == "done"
    assert done.frame()["response"].to_list() == [row["q"] for row in ROWS]
    assert done.frame()["run_id"].n_unique() == 1
    assert [key for key in store.listing() if key.startswith(STATE)] == []
    assert json.loads(store.get("pub/manifest.json"))["run_id"] == done.run_id
    manifest: dict[str, Any] = json.loads(done.folder.manifest.read_text())
    return manifest


def keys(store: FaultyStore, ending: str) -> list[str]:
    return [key for key in store.listing() if key.endswith(ending)]


def stop_after(answers: int) -> Callable[[], bool]:
    left = iter(range(answers))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("shards", [["0/2", "1/2"], ["1/2", "any"]])
def test_machines_without_a_shared_disk_make_one_run(
    job: Path, object_store: FaultyStore, shards: list[str]
) -> None:
    for number, shard in enumerate(shards):
        made = run_shard(on(f"machine-{number}", job), parse_shard(shard))
        assert (made.outcome, made.counts.rows) == ("sealed", 20)
    machines = check(job, object_store)["engine"]["machines"]
    assert sorted((one["shard"], one["parts"]) for one in machines) == [(s, 4) for s in shards]


def test_workers_at_the_same_time_make_each_part_once(job: Path, object_store: FaultyStore) -> None:
    made: list[RunResult] = []
    jobs = [on(f"machine-{number}", job) for number in range(3)]
    threads = [
        threading.Thread(target=lambda one=one: made.append(run_shard(one, Shard())))
        for one in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.outcome for one in made] == ["sealed"] * 3
    assert sum(one.counts.rows for one in made) == len(ROWS)
    assert len(keys(object_store, ".0")) == 8
    check(job, object_store)


@pytest.mark.slow
def test_the_parts_of_a_machine_that_vanished_are_taken_over(
    job: Path, object_store: FaultyStore
) -> None:
    """It shows no sign of life any more; its disk is lost."""
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--shard", "any", "--quiet"]
    died = subprocess.run(
        command, env=os.environ | {VARIABLE: "part.before_link:3"}, check=False, cwd=job.parent
    )
    assert died.returncode == -9
    assert len(keys(object_store, ".bgpart")) == 2
    made = run_shard(on("spare", job), Shard(), expiry=2.0)
    assert (made.outcome, made.counts.rows) == ("sealed", 30)
    assert keys(object_store, ".1") != []
    check(job, object_store)


def test_a_stopped_shard_goes_on_where_its_disk_is_kept(
    job: Path, object_store: FaultyStore
) -> None:
    stopped = run_shard(on("machine", job), Shard(0, 1), stop=stop_after(13))
    assert stopped.outcome == "stopped"
    made = run_shard(on("machine", job), Shard(0, 1))
    assert (made.outcome, made.resumed_rows) == ("sealed", stopped.counts.rows)
    check(job, object_store)


def test_a_merge_names_what_is_missing(job: Path, object_store: FaultyStore) -> None:
    with pytest.raises(UsageError, match="holds nothing of a run"):
        check_begun(RunFolder(job.parent / MERGER), load_job(job).job.output)
    run_shard(on("machine", job), Shard(0, 2))
    check_begun(RunFolder(job.parent / MERGER), load_job(job).job.output)
    assert "4 of 8 parts are missing (1, 3, 5, 7)" in merge(job).why_stopped
    run_shard(on("machine", job), Shard(1, 2))
    check(job, object_store)


@pytest.fixture
def judged(make_job: MakeJob, object_store: FaultyStore) -> Path:
    """A job whose evaluation queries models."""
    output = {"path": "out", "upload": object_store.address("pub"), "upload_parts": True}
    rows = [{**row, "ref": "row"} for row in ROWS]
    return make_job(rows, output=output, batching={"part_rows": 5}, evaluate=JUDGED)


def scores(run_folder: Path) -> pl.DataFrame:
    return pl.read_parquet(run_folder / "scores.parquet")


@pytest.fixture
def queried(judged: Path) -> int:
    """The number of queries of one process, whose run is in the folder `whole`."""
    models = CountedModels()
    alone = ["output.path=whole", "output.upload=null", "output.upload_parts=false"]
    run(load_job(judged, overrides=alone), opener=models)
    return models.queried


@pytest.mark.parametrize("shards", [["any", "any"], ["1/2", "0/2"]])
def test_shards_query_the_models_and_a_merge_queries_nothing(
    judged: Path, queried: int, object_store: FaultyStore, shards: list[str]
) -> None:
    workers, last = CountedModels(), CountedModels()
    for number, shard in enumerate(shards):
        made = run_shard(on(f"machine-{number}", judged), parse_shard(shard), opener=workers)
        assert made.outcome == "sealed"
    assert workers.queried == queried
    done = merge(judged, last)
    assert (done.outcome, last.queried, last.opened) == ("done", 0, [])
    assert scores(done.folder.path).equals(scores(judged.parent / "whole"))
    assert [key for key in object_store.listing() if key.startswith(STATE)] == []


@pytest.mark.soak
def test_results_of_a_machine_that_vanished_while_it_queried_are_used(
    judged: Path, queried: int, object_store: FaultyStore
) -> None:
    """Another machine queries the models about its parts too, of which it has no copy."""
    command = [sys.executable, "-m", "batchgen", "run", str(judged), "--shard", "any", "--quiet"]
    killed = os.environ | {VARIABLE: "likelihoods.before_rename:4"}
    assert subprocess.run(command, env=killed, check=False, cwd=judged.parent).returncode == -9
    saved = cached_results(judged.parent / "out" / ".batchgen")
    assert len(keys(object_store, ".parquet")) == 3
    spare, last = CountedModels(), CountedModels()
    assert run_shard(on("spare", judged), Shard(), opener=spare, expiry=2.0).outcome == "sealed"
    assert spare.queried == queried - saved
    done = merge(judged, last)
    assert (done.outcome, last.queried) == ("done", 0)
    assert scores(done.folder.path).equals(scores(judged.parent / "whole"))


def test_others_are_refused_by_name(job: Path, object_store: FaultyStore) -> None:
    run_shard(on("machine", job), Shard(0, 2))
    with pytest.raises(StateError, match=r"pub/\.batchgen was made by another job: run\.seed"):
        run_shard(on("other", job, "run.seed=7"), Shard(1, 2))
    (versions,) = keys(object_store, "versions.json")
    object_store.put(versions, json.dumps({"torch": "1.0"}).encode())
    with pytest.raises(StateError, match=r"torch \S+ here, 1\.0 there"):
        run_shard(on("old", job), Shard(1, 2))


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Rule("lose the answer", "PUT", "00002.bgpart"), id="lost answer to a part"),
        pytest.param(Rule("lose the answer", "PUT", "claims/00002.0"), id="lost answer to a claim"),
        pytest.param(Rule("answer", "PUT", "claims/00002.0", 2, 503), id="503"),
        pytest.param(Rule("answer", "PUT", "claims/00002.0", 1, 409, "Conflict"), id="409"),
        pytest.param(Rule("answer", "PUT", "shards/any", 2, 503), id="503 for a member"),
    ],
)
def test_passing_faults_are_survived(job: Path, object_store: FaultyStore, rule: Rule) -> None:
    object_store.rules.append(rule)
    made = run_shard(on("machine", job), Shard())
    assert rule.count == 0
    assert (made.outcome, made.counts.rows) == ("sealed", 40)
    check(job, object_store)


def test_credentials_that_expire_cost_no_answer(
    job: Path, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    object_store.rules.append(Rule("answer", "PUT", "00003.bgpart", 99, 400, "ExpiredToken"))
    command = ["run", str(job), "--shard", "any"]
    assert call(command) == 5
    assert "rejected the credentials" in capfd.readouterr().err
    object_store.rules.clear()
    sealed = len(keys(object_store, ".bgpart"))
    assert call(command) == 0
    assert sealed == 3
    check(job, object_store)


def test_a_part_that_another_machine_sealed_first_counts(
    job: Path, object_store: FaultyStore
) -> None:
    """A machine that was believed dead seals a part while this one does."""
    run_shard(on("machine", job), Shard(0, 1), stop=stop_after(30))
    part = keys(object_store, "00003.bgpart")[0]
    content = object_store.get(part)
    object_store.delete(part)
    race = Rule("none", "PUT", "00003.bgpart")
    race.then = lambda: object_store.put(part, content, sealed=True)
    object_store.rules.append(race)
    assert run_shard(on("spare", job), Shard()).outcome == "sealed"
    assert race.count == 0
    assert object_store.get(part) == content
    check(job, object_store)


def test_nothing_of_a_published_run_is_made_again(job: Path, object_store: FaultyStore) -> None:
    """By a worker that looks for missing parts after the merge has deleted them."""
    run_shard(on("machine", job), Shard(0, 1))
    loaded = on("machine", job)
    home = open_parts_home(RunFolder(Path(loaded.job.output.path)), loaded.job.output, fresh=False)
    assert home.state is not None
    run_id = check(job, object_store)["run_id"]
    store = SharedBucketParts(home.folder, home.state, run_id, compression="zstd")
    assert store.is_sealed(3)
    assert keys(object_store, ".bgpart") == []


def test_a_store_that_ignores_conditions_is_refused(job: Path, object_store: FaultyStore) -> None:
    object_store.rules.append(Rule("ignore conditions", "PUT", count=999))
    with pytest.raises(BatchgenError, match="ignores conditions of a put"):
        run_shard(on("machine", job), Shard())


def test_a_published_run_is_read_from_the_bucket(
    job: Path, object_store: FaultyStore, capfd: pytest.CaptureFixture[str]
) -> None:
    for index in range(2):
        command = ["run", str(job), "--shard", f"{index}/2", "--set", f"output.path=m{index}"]
        assert call(command) == 0
    assert call(["run", str(job), "--merge", "--set", "output.path=merged"]) == 0
    assert call(["status", object_store.address("pub")]) == 0
    assert "complete · 40 of 40 rows" in capfd.readouterr().out
    table = pl.read_parquet(job.parent / "merged" / "responses.parquet")
    assert table["response"].to_list() == [row["q"] for row in ROWS]
