"""A run whose rows fail stops early, ends with 3, and can be resumed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import ExitCode
from batchgen.inspection.status import status
from batchgen.jobfile.load import load_job
from batchgen.records import Completion, Failure, Request
from batchgen.run.run import run
from tests.conftest import MakeJob
from tests.run.wrapped_engines import Wrapped

CODES = {"x": "out_of_memory", "y": "nonfinite_logits"}


class Failing(Wrapped):
    """Fails the rows whose prompt begins with x or y, each with a code of its own."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            assert request.prompt is not None
            letter = request.prompt.messages[-1].content
            if letter in CODES:
                failure = Failure(CODES[letter], "it fails")  # type: ignore[arg-type]  # a code of the table
                yield Completion(request.index, request.sample, (), "", "error", failure=failure)
            else:
                yield from self.inner.generate([request])


def failing(model: Any, **others: Any) -> Engine:
    return Failing(open_engine(model, **others))


def make(make_job: MakeJob, prompts: Sequence[str], **limits: Any) -> Path:
    rows = [{"q": prompt} for prompt in prompts]
    return make_job(rows, batching={"part_rows": 100, "sort": "none"}, run=limits)


ALL = ["x"] * 1000
HALF = ["x", "a"] * 500
FIRST = ["x"] * 100 + ["a"] * 900
MIXED = ["x", "y"] * 50 + ["a"] * 900
EMPTY = [""] * 1000
SOME_EMPTY = ([""] * 60 + ["a"] * 40) * 10


@pytest.mark.parametrize(
    ("prompts", "limits", "outcome", "code", "failed"),
    [
        pytest.param(ALL, {}, "stopped", 3, 50, id="all, in the engine"),
        pytest.param(EMPTY, {}, "stopped", 3, 100, id="all, before the engine: a part at a time"),
        pytest.param(HALF, {}, "stopped", 3, 50, id="more than the rate allows"),
        pytest.param(HALF, {"max_error_rate": 0.2}, "stopped", 3, 201, id="a higher rate"),
        pytest.param(
            HALF, {"max_error_rate": 1, "max_error_count": 60}, "stopped", 3, 61, id="a count"
        ),
        pytest.param(FIRST, {"max_error_rate": 0.5}, "stopped", 3, 50, id="the first 50, one code"),
        pytest.param(MIXED, {"max_error_rate": 0.5}, "done", 0, 100, id="the first 50, two codes"),
        pytest.param(SOME_EMPTY, {"max_error_rate": 0.7}, "done", 0, 600, id="not the first rows"),
        pytest.param(ALL, {"max_error_rate": 1}, "done", 0, 1000, id="every row may fail"),
        pytest.param(ALL[:49], {}, "done", 3, 49, id="a small run is finished"),
    ],
)
def test_a_run_stops_when_too_many_rows_fail(
    make_job: MakeJob,
    prompts: Sequence[str],
    limits: dict[str, Any],
    outcome: str,
    code: int,
    failed: int,
) -> None:
    result = run(load_job(make(make_job, prompts, **limits)), opener=failing)
    assert (result.outcome, result.exit_code) == (outcome, code)
    assert result.counts.failed == failed
    assert status(result.folder.path).counts.failed == failed
    if outcome == "stopped":
        assert result.counts.rows <= 4 * failed
        assert result.why_stopped


def never(*_: object, **__: object) -> Engine:
    raise AssertionError("no engine is needed")


@pytest.mark.parametrize(
    ("start", "change", "opener", "code", "failed"),
    [
        pytest.param("resume", {}, never, 3, 50, id="unchanged: it stops at once"),
        pytest.param("resume", {"max_error_rate": 1}, failing, 0, 500, id="a higher limit"),
        pytest.param("retry-errors", {}, open_engine, 0, 0, id="retried, after the cause is gone"),
        pytest.param("retry-errors", {}, failing, 3, 50, id="retried, and they fail again"),
    ],
)
def test_a_run_that_failures_stopped_can_be_resumed(
    make_job: MakeJob,
    start: Any,
    change: dict[str, Any],
    opener: Callable[..., Engine],
    code: int,
    failed: int,
) -> None:
    job = make(make_job, HALF)
    assert run(load_job(job), opener=failing).exit_code == ExitCode.TOO_MANY_FAILED_ROWS
    sets = [f"run.{key}={value}" for key, value in change.items()]
    result = run(load_job(job, overrides=sets), start=start, opener=opener)
    assert (result.exit_code, result.counts.failed) == (code, failed)
    if result.outcome == "done":
        frame = result.frame()
        assert frame["id"].to_list() == [str(n) for n in range(1000)]
