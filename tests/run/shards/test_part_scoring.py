"""CountedModels are queried about the parts of a run by its shards; publishing finds all results, and they are those of one process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.evaluation.metric_queries import queries_models
from batchgen.jobfile.load import load_job
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.shard import parse_shard
from batchgen.storage.failpoints import LIKELIHOOD_POINTS, VARIABLE
from tests.conftest import MakeJob
from tests.run.shards.counted_models import JUDGED, CountedModels, cached_results
from tests.soak.harness import Spawner

ROWS = [{"q": f"question {n} " + "x" * (n % 23), "ref": "que"} for n in range(50)]
OF_THE_RUN = ("run_id", "created_at")


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, batching={"part_rows": 10}, evaluate=JUDGED)


def folder_of(job: Path) -> RunFolder:
    return RunFolder(job.parent / "out")


def merge(job: Path, models: CountedModels, *, publishes: bool = True) -> RunResult:
    executor = NoExecutor(folder_of(job), publishes=publishes)
    return run(load_job(job), opener=models, executor=executor)


def scores(result: RunResult) -> pl.DataFrame:
    return pl.read_parquet(result.folder.path / "scores.parquet")


@pytest.fixture
def whole(job: Path) -> tuple[RunResult, int]:
    """One process alone, and the number of its queries."""
    models = CountedModels()
    done = run(load_job(job, overrides=["output.path=whole"]), opener=models)
    return done, models.queried


@pytest.mark.parametrize("shards", [["any", "any"], ["1/2", "0/2"]])
def test_shards_query_the_models_and_publishing_queries_nothing(
    job: Path, whole: tuple[RunResult, int], shards: list[str]
) -> None:
    single, queried = whole
    assert queried > len(ROWS)
    workers = CountedModels()
    for shard in shards:
        assert run_shard(job, parse_shard(shard), opener=workers).outcome == "sealed"
    assert workers.queried == queried
    last = CountedModels()
    done = merge(job, last)
    assert (done.outcome, last.queried, last.opened) == ("done", 0, [])
    assert done.frame().drop(OF_THE_RUN).equals(single.frame().drop(OF_THE_RUN))
    assert scores(done).equals(scores(single))


def test_what_a_stopped_shard_has_not_queried_is_queried_by_the_next(
    job: Path, whole: tuple[RunResult, int]
) -> None:
    _, queried = whole
    first, second, last = CountedModels(most=queried // 2), CountedModels(), CountedModels()
    stopped = run_shard(job, parse_shard("any"), opener=first, stop=lambda: first.stopped)
    assert stopped.outcome == "stopped"
    assert run_shard(job, parse_shard("any"), opener=second).outcome == "sealed"
    assert 0 < second.queried < queried
    assert (merge(job, last).outcome, last.queried) == ("done", 0)


def test_what_no_shard_queried_is_queried_by_publishing(
    job: Path, whole: tuple[RunResult, int]
) -> None:
    single, queried = whole
    lost, last = CountedModels(most=1), CountedModels()
    assert (
        run_shard(job, parse_shard("any"), opener=lost, stop=lambda: lost.stopped).why_stopped == ""
    )
    done = merge(job, last)
    assert (done.outcome, last.queried) == ("done", queried)
    assert scores(done).equals(scores(single))


def test_a_run_whose_models_workers_query_is_not_published_before(job: Path) -> None:
    run_shard(job, parse_shard("any"), opener=CountedModels())
    begun = merge(job, CountedModels(), publishes=False)
    assert (begun.outcome, begun.counts.rows) == ("stopped", len(ROWS))
    assert not folder_of(job).complete


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("point", LIKELIHOOD_POINTS)
def test_a_shard_killed_while_it_queries_loses_open_results_only(
    job: Path, whole: tuple[RunResult, int], spawner: Spawner, point: str
) -> None:
    """It is killed when it saves its fourth block of results; those of the blocks before are not queried again."""
    single, queried = whole
    ended = spawner.run(["run", str(job), "--shard", "any"], env={VARIABLE: f"{point}:4"})
    assert ended.killed, ended.output
    saved = cached_results(folder_of(job).private)
    assert 0 < saved < queried
    second, last = CountedModels(), CountedModels()
    assert run_shard(job, parse_shard("any"), opener=second).outcome == "sealed"
    assert second.queried == queried - saved
    done = merge(job, last)
    assert (done.outcome, last.queried) == ("done", 0)
    assert done.frame().drop(OF_THE_RUN).equals(single.frame().drop(OF_THE_RUN))
    assert scores(done).equals(scores(single))


@pytest.mark.parametrize(
    ("changes", "queries"),
    [
        ({}, False),
        ({"evaluate": {"metrics": ["length"]}}, False),
        ({"evaluate": {"metrics": [{"type": "perplexity", "column": "ref"}]}}, True),
        ({"evaluate": {"judges": JUDGED["judges"]}}, True),
    ],
)
def test_which_jobs_query_models(
    make_job: Callable[..., Path], changes: dict[str, Any], queries: bool
) -> None:
    assert queries_models(load_job(make_job(ROWS, **changes)).job) is queries
