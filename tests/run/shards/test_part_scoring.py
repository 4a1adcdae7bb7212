"""Models are queried about the parts of a run by its shards; publishing finds all results, and they are those of one process."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.engines.echo import EchoEngine
from batchgen.evaluation.metric_queries import queries_models
from batchgen.jobfile.load import load_job
from batchgen.records import Continuation, Likelihood
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.shard import parse_shard
from tests.conftest import MakeJob

ROWS = [{"q": f"question {n} " + "x" * (n % 23), "ref": "que"} for n in range(50)]
JUDGED = {
    "metrics": [{"type": "loglikelihood", "column": "ref"}],
    "judges": [{"name": "good", "model": {"engine": "echo"}}],
}
OF_THE_RUN = ("run_id", "created_at")


@dataclass
class Models:
    """Opens engines, and counts their queries."""

    queried: int = 0
    most: int = 1_000_000
    stopped: bool = False
    opened: list[Any] = field(default_factory=list)

    def __call__(self, *_: object, decode: Any, **__: object) -> EchoEngine:
        models = self

        class Counting(EchoEngine):
            def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
                for one in super().likelihoods(continuations):
                    models.queried += 1
                    models.stopped = models.queried >= models.most
                    yield one

        self.opened.append(decode)
        return Counting(decode)


@pytest.fixture
def job(make_job: MakeJob) -> Path:
    return make_job(ROWS, batching={"part_rows": 10}, evaluate=JUDGED)


def folder_of(job: Path) -> RunFolder:
    return RunFolder(job.parent / "out")


def merge(job: Path, models: Models, *, publishes: bool = True) -> RunResult:
    executor = NoExecutor(folder_of(job), publishes=publishes)
    return run(load_job(job), opener=models, executor=executor)


def scores(result: RunResult) -> pl.DataFrame:
    return pl.read_parquet(result.folder.path / "scores.parquet")


@pytest.fixture
def whole(job: Path) -> tuple[RunResult, int]:
    """One process alone, and the number of its queries."""
    models = Models()
    done = run(load_job(job, overrides=["output.path=whole"]), opener=models)
    return done, models.queried


@pytest.mark.parametrize("shards", [["any", "any"], ["1/2", "0/2"]])
def test_shards_query_the_models_and_publishing_queries_nothing(
    job: Path, whole: tuple[RunResult, int], shards: list[str]
) -> None:
    single, queried = whole
    assert queried > len(ROWS)
    workers = Models()
    for shard in shards:
        assert run_shard(job, parse_shard(shard), opener=workers).outcome == "sealed"
    assert workers.queried == queried
    last = Models()
    done = merge(job, last)
    assert (done.outcome, last.queried, last.opened) == ("done", 0, [])
    assert done.frame().drop(OF_THE_RUN).equals(single.frame().drop(OF_THE_RUN))
    assert scores(done).equals(scores(single))


def test_what_a_stopped_shard_has_not_queried_is_queried_by_the_next(
    job: Path, whole: tuple[RunResult, int]
) -> None:
    _, queried = whole
    first, second, last = Models(most=queried // 2), Models(), Models()
    stopped = run_shard(job, parse_shard("any"), opener=first, stop=lambda: first.stopped)
    assert stopped.outcome == "stopped"
    assert run_shard(job, parse_shard("any"), opener=second).outcome == "sealed"
    assert 0 < second.queried < queried
    assert (merge(job, last).outcome, last.queried) == ("done", 0)


def test_what_no_shard_queried_is_queried_by_publishing(
    job: Path, whole: tuple[RunResult, int]
) -> None:
    single, queried = whole
    lost, last = Models(most=1), Models()
    assert (
        run_shard(job, parse_shard("any"), opener=lost, stop=lambda: lost.stopped).why_stopped == ""
    )
    done = merge(job, last)
    assert (done.outcome, last.queried) == ("done", queried)
    assert scores(done).equals(scores(single))


def test_a_run_whose_models_workers_query_is_not_published_before(job: Path) -> None:
    run_shard(job, parse_shard("any"), opener=Models())
    begun = merge(job, Models(), publishes=False)
    assert (begun.outcome, begun.counts.rows) == ("stopped", len(ROWS))
    assert not folder_of(job).complete


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
