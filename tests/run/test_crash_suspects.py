"""A row that crashes two processes in a row, and then child processes, is marked failed; no other row is."""

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from tests.run.wrapped_engines import MARK
from tests.soak.harness import Spawner

MakeJob = Callable[..., Path]


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


def crashes_until_done(spawner: Spawner, job: Path) -> int:
    """Start the job repeatedly, like a scheduler."""
    for deaths in range(12):
        ended = spawner.run([str(job)], call="tests.run.wrapped_engines:run_deadly")
        if ended.code == 0:
            return deaths
        assert ended.killed, ended.output
    pytest.fail("the run never came to its end")


@pytest.mark.parametrize(
    ("deadly", "part_rows", "samples"),
    [
        pytest.param([700], 2048, 1, id="in a part", marks=pytest.mark.soak),
        pytest.param([0], 300, 1, id="the first", marks=pytest.mark.soak),
        pytest.param([1099], 300, 1, id="the last", marks=pytest.mark.soak),
        pytest.param([3], 2048, 3, id="samples", marks=pytest.mark.soak),
    ],
)
def test_a_row_that_crashes_the_process_is_identified_by_the_third_start(
    make_job: MakeJob, spawner: Spawner, deadly: list[int], part_rows: int, samples: int
) -> None:
    rows = [{"q": f"{MARK if n in deadly else 'harmless'} {n}"} for n in range(1100)]
    job = make_job(
        rows,
        batching={"part_rows": part_rows},
        run={"max_error_rate": 1},
        decoding={"num_return_sequences": samples, "temperature": 1.0},
    )
    assert crashes_until_done(spawner, job) == 2
    found = pl.read_parquet(job.parent / "out" / "responses.parquet")
    failed = found.filter(pl.col("error_code").is_not_null())
    assert failed["id"].unique().to_list() == [str(n) for n in deadly]
    assert failed["error_code"].to_list() == ["crash_suspect"] * samples
    assert failed["messages"].null_count() == 0
    whole = run(load_job(job, overrides=["output.path=whole"])).frame()
    others = pl.col("error_code").is_null()
    columns = ["id", "sample", "response", "seed", "finish_reason", "row_fingerprint"]
    innocent = pl.col("id").is_in([str(n) for n in deadly]).not_()
    assert found.filter(others)[columns].equals(whole.filter(innocent)[columns])


@pytest.mark.soak
def test_each_crashing_row_causes_at_most_two_crashes(make_job: MakeJob, spawner: Spawner) -> None:
    deadly = [5, 6, 1000]
    rows = [{"q": f"{MARK if n in deadly else 'harmless'} {n}"} for n in range(1100)]
    job = make_job(rows, run={"max_error_rate": 1})
    assert crashes_until_done(spawner, job) <= 2 * len(deadly)
    found = pl.read_parquet(job.parent / "out" / "responses.parquet")
    condemned = found.filter(pl.col("error_code") == "crash_suspect")
    assert condemned["id"].to_list() == ["5", "6", "1000"]
    assert found["error_code"].drop_nulls().len() == 3


@pytest.mark.soak
def test_retry_errors_generates_a_crash_suspect_again(make_job: MakeJob, spawner: Spawner) -> None:
    """With an engine that it does not crash, the row gets an answer; with the same engine, one crash suffices."""
    rows = [{"q": f"{MARK if n == 3 else 'harmless'} {n}"} for n in range(10)]
    job = make_job(rows, run={"max_error_rate": 1})
    assert crashes_until_done(spawner, job) == 2
    result = run(load_job(job), start="retry-errors")
    assert result.counts.failed == 0
    assert MARK in result.frame()["response"][3]
