"""`output.choice_probabilities` through a whole run: values, republication, reuse, and what is rejected."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.engines.contract import Engine
from batchgen.errors import JobFileError
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.result import RunResult
from batchgen.run.run import run

MakeJob = Callable[..., Path]
CHOICE = {"response_format": {"choice": ["a", "ab", "c"]}}
ROWS = [
    {"id": str(n), "q": text, "labels": labels}
    for n, (text, labels) in enumerate([("x", ["u", "v"]), ("y", None), ("", None)])
]
COLUMN = {"choice_probabilities": True}
TOLERANT = {"max_error_rate": 1}
OTHER = -math.log(2 * 65_536)
"""Log-probability of a token that the engine does not expect; it expects the prompt again, which begins with a mark."""


def no_engine(*_: object, **__: object) -> Engine:
    raise AssertionError("an engine is opened")


def cells(result: RunResult, column: str = "choice_probabilities") -> list[Any]:
    assert list(verify(result.folder).issues) == []
    return result.frame()[column].to_list()


def expected(**logprobs: float) -> list[dict[str, object]]:
    total = sum(math.exp(one) for one in logprobs.values())
    return [
        {
            "label": label,
            "probability": pytest.approx(math.exp(one) / total),
            "logprob": pytest.approx(one),
        }
        for label, one in logprobs.items()
    ]


OF_JOB = expected(a=math.log(math.exp(OTHER) - math.exp(2 * OTHER)), ab=2 * OTHER, c=OTHER)
"""`a` is the part that does not continue to `ab`."""


def test_each_answer_has_the_probability_of_each_label(make_job: MakeJob) -> None:
    result = run(make_job(ROWS, decoding=CHOICE, output=COLUMN, run=TOLERANT))
    assert cells(result) == [OF_JOB, OF_JOB, None]  # the last prompt is empty
    frame = result.frame()
    assert not [name for name in frame.columns if name.startswith("choices:")]


def test_the_column_is_there_without_the_key_and_without_another_pass(make_job: MakeJob) -> None:
    rows = [{"q": str(n)} for n in range(6)]
    path = make_job(rows, decoding=CHOICE, batching={"part_rows": 4})
    calls = iter(range(100))
    assert run(path, stop=lambda: next(calls) > 2).outcome == "stopped"
    result = run(path, opener=no_engine_but_echo)
    assert result.resumed_rows
    assert cells(result) == [OF_JOB] * 6
    assert result.frame()["response"].to_list() == ["c"] * 6  # the most likely label


@pytest.mark.parametrize(
    "decoding",
    [
        {"response_format": {"choice": ["a"], "after": "x"}},
        {"response_format": {"choice": [str(n) for n in range(33)]}},
        {**CHOICE, "repetition_penalty": 1.1},
        {**CHOICE, "logprobs": 2},
        {"response_format": {"regex": "a"}},
        {},
    ],
)
def test_without_the_key_there_is_no_column_that_would_cost_a_pass(
    make_job: MakeJob, decoding: dict[str, Any]
) -> None:
    assert "choice_probabilities" not in run(make_job(ROWS[:1], decoding=decoding)).frame().columns


def test_labels_of_a_column(make_job: MakeJob) -> None:
    form = {"response_format": {"choice": ["a", "c"], "columns": {"choice": "labels"}}}
    result = run(make_job(ROWS, decoding=form, output=COLUMN, run=TOLERANT))
    assert cells(result) == [expected(u=OTHER, v=OTHER), expected(a=OTHER, c=OTHER), None]


def test_the_key_changes_the_columns_of_a_complete_run(make_job: MakeJob) -> None:
    path = make_job(ROWS, decoding=CHOICE, run=TOLERANT, output={"choice_probabilities": False})
    first = run(path)
    assert "choice_probabilities" not in first.frame().columns
    with_column = load_job(path, overrides=["output.choice_probabilities=true"])
    again = run(with_column)
    assert again.outcome == "published again"
    assert cells(again) == [OF_JOB, OF_JOB, None]
    prefixed = load_job(path, overrides=["output.choice_probabilities=true", "output.prefix=x_"])
    assert cells(run(prefixed, opener=no_engine), "x_choice_probabilities") == cells_of_job()
    assert run(path, opener=no_engine).frame().columns == first.frame().columns


def cells_of_job() -> list[Any]:
    return [OF_JOB, OF_JOB, None]


def test_metrics_are_scored_beside_the_column(make_job: MakeJob) -> None:
    metrics = {"metrics": ["length", {"type": "perplexity", "column": "q"}]}
    path = make_job(ROWS, decoding=CHOICE, output=COLUMN, run=TOLERANT, evaluate=metrics)
    result = run(path)
    assert cells(result) == cells_of_job()
    assert result.frame()["score_perplexity"].to_list()[0] is not None


def test_calibration_reads_the_column(make_job: MakeJob) -> None:
    rows = [{**row, "gold": "c"} for row in ROWS]
    metrics = {"reference": "gold", "metrics": ["calibration"]}
    path = make_job(rows, decoding=CHOICE, output=COLUMN, run=TOLERANT, evaluate=metrics)
    result = run(path)
    values = {row.metric: (row.value, row.n) for row in result.metrics if row.slice == "all"}
    cell = result.frame()["choice_probabilities"].to_list()[0]
    shares = [one["probability"] for one in cell]
    assert [values[name][1] for name in ("calibration_ece", "calibration_brier")] == [2, 2]
    likely = max(shares)
    hit = shares.index(likely) == 2
    assert values["calibration_ece"][0] == pytest.approx(abs(likely - hit))
    assert values["calibration_brier"][0] == pytest.approx(
        shares[0] ** 2 + shares[1] ** 2 + (1 - shares[2]) ** 2
    )
    without = {"output": {"choice_probabilities": False}}
    with pytest.raises(JobFileError, match="column 'choice_probabilities' is not among"):
        run(make_job(rows, decoding=CHOICE, run=TOLERANT, evaluate=metrics, **without))


def test_reused_answers_keep_their_probabilities(make_job: MakeJob) -> None:
    settings = {"decoding": CHOICE, "run": TOLERANT}
    first = run(make_job(ROWS[:1], **settings, output=COLUMN))
    second = make_job(ROWS[:1], **settings, output={**COLUMN, "path": "next"})
    reused = run(second, incremental_from=first.folder.path, opener=no_engine_but_echo)
    assert reused.incremental is not None
    assert (reused.incremental.reused, cells(reused)) == (1, [OF_JOB])
    output = {"path": "last", "choice_probabilities": False}
    without = run(make_job(ROWS[:1], **settings, output=output), incremental_from=first.folder.path)
    assert "choice_probabilities" not in without.frame().columns


def no_engine_but_echo(*arguments: Any, **options: Any) -> Engine:
    from batchgen.engines.engine_registry import open_engine

    engine = open_engine(*arguments, **options)

    def likelihoods(_: object) -> None:
        raise AssertionError("the model is queried")

    engine.likelihoods = likelihoods  # type: ignore[method-assign, assignment]  # must not be called
    return engine


@pytest.mark.parametrize(
    ("form", "output", "message"),
    [
        (None, {}, "has no effect without labels"),
        ({"regex": "a+"}, {}, "has no effect without labels"),
        ({"choice": ["a"], "after": "</think>"}, {}, "needs labels right after the prompt"),
        ({"choice": ["a"]}, {"store_prompt": False}, "needs the row's prompt"),
        (
            {"columns": {"choice": "labels"}},
            {"keep_columns": "none"},
            "needs the labels in the column",
        ),
    ],
)
def test_what_it_needs(
    make_job: MakeJob, form: dict[str, Any] | None, output: dict[str, Any], message: str
) -> None:
    decoding = {} if form is None else {"response_format": form}
    with pytest.raises(JobFileError, match=message):
        run(make_job(ROWS, decoding=decoding, output={**COLUMN, **output}))
