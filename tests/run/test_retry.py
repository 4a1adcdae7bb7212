"""`--retry-errors` generates failed rows again and keeps all others, in complete and unfinished runs."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import StateError
from batchgen.inspection import status as inspect
from batchgen.jobfile.load import load_job
from batchgen.records import Completion, Failure, Request
from batchgen.run.run import run
from batchgen.storage.failpoints import RETRY_POINTS
from tests.reporters import RecordingReporter
from tests.run.wrapped_engines import After, Wrapped
from tests.soak.harness import Spawner, Work, reading

MakeJob = Callable[..., Path]
ROWS = [{"q": f"row {n}" if n % 7 else ""} for n in range(40)]
EMPTY = sum(not row["q"] for row in ROWS)


class Unlucky(Wrapped):
    """Fails some answers, like a machine with little memory."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for done in self.inner.generate(requests):
            if (done.index + done.sample) % 3 == 0:
                failure = Failure("out_of_memory", "does not fit")
                yield Completion(done.index, done.sample, (), "", "error", failure=failure)
            else:
                yield done


class Counting(Wrapped):
    """Counts its requests."""

    def __init__(self, inner: Engine, seen: list[Request]) -> None:
        super().__init__(inner)
        self._seen = seen

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        yield from self.inner.generate(self._watched(requests))

    def _watched(self, requests: Iterable[Request]) -> Iterator[Request]:
        for request in requests:
            self._seen.append(request)
            yield request


def unlucky(model: Any, **others: Any) -> Engine:
    return Unlucky(open_engine(model, **others))


@pytest.mark.parametrize("layout", ["file", "parts"])
@pytest.mark.parametrize("part_rows", [6, 2048])
@pytest.mark.parametrize("looks", [11, 10_000], ids=["unfinished", "complete"])
def test_only_failed_rows_are_generated_again(
    make_job: MakeJob, layout: str, part_rows: int, looks: int
) -> None:
    decoding = {"num_return_sequences": 2, "temperature": 1.0}
    job = load_job(
        make_job(
            ROWS,
            batching={"part_rows": part_rows},
            run={"max_error_rate": 1},
            decoding=decoding,
            output={"layout": layout},
        )
    )
    first = run(job, opener=unlucky, stop=After(looks))
    good = first.counts.rows - first.counts.failed
    progress = inspect.status(first.folder.path)
    assert progress.counts == first.counts
    assert sum(failure.count for failure in progress.failed) == first.counts.failed
    seen: list[Request] = []
    messages: list[str] = []
    second = run(
        job,
        start="retry-errors",
        reporter=RecordingReporter(messages),
        opener=lambda model, **others: Counting(open_engine(model, **others), seen),
    )
    assert f"failed answers to generate again: {first.counts.failed}" in messages
    assert second.outcome == "done"
    assert second.counts.failed == 2 * EMPTY
    assert second.run_id == first.run_id
    assert len(seen) == 2 * (len(ROWS) - EMPTY) - good
    whole = run(load_job(job.file, overrides=["output.path=other"]))
    drop = ("run_id", "created_at")
    assert second.frame().drop(drop).equals(whole.frame().drop(drop))


def test_good_answers_keep_their_time(make_job: MakeJob) -> None:
    job = load_job(make_job(ROWS, run={"max_error_rate": 1}))
    before = run(job, opener=unlucky).frame()
    after = run(job, start="retry-errors").frame()
    same = before["created_at"] == after["created_at"]
    good = before["error_code"].is_null()
    assert same.filter(good).all()
    assert not same.filter(before["error_code"] == "out_of_memory").any()


def test_without_failed_rows_nothing_is_generated(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job([{"q": "a"}]))
    assert call(["run", job, "-q"]) == 0
    assert call(["run", job, "--retry-errors"]) == 0
    err = capsys.readouterr().err
    assert "failed answers to generate again: 0" in err
    assert "already complete" in err


def test_retry_errors_and_fresh_exclude_each_other(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(make_job()), "--retry-errors", "--fresh"]) == 2
    assert "--fresh and --retry-errors exclude each other" in capsys.readouterr().err


def test_damaged_answers_are_not_reopened(make_job: MakeJob) -> None:
    job = load_job(make_job(ROWS, run={"max_error_rate": 1}))
    published = run(job, opener=unlucky).folder.responses
    data = bytearray(published.read_bytes())
    data[100] ^= 1
    published.write_bytes(bytes(data))
    with pytest.raises(StateError, match=r"after it was published: it has sha256 .* expected "):
        run(job, start="retry-errors")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as spawner:
        yield Work(tmp_path_factory.mktemp("retry"), spawner, rows=200)


@pytest.mark.parametrize(
    "point",
    [
        *RETRY_POINTS,
        "part.after_link",
        "journal.after_commit",
        "publish.before_rename",
        "publish.after_rename",
        "manifest.before_rename",
        "manifest.after_rename",
        "clean.half",
    ],
)
def test_a_killed_retry_leaves_the_published_answers_and_can_be_resumed(
    work: Work, point: str
) -> None:
    """Published files exist all the time; a plain `run` resumes the retry."""
    work.clear()
    assert work.run().code == 0
    with reading(work) as reader:
        assert work.run("--retry-errors", fail_at=point).killed
        reader.look()
        assert work.out.responses.exists()
        assert work.run().code == 0
    work.check()
    assert not work.out.retry.exists()
    assert pl.read_parquet(work.out.responses).height == 200
