"""`output.parse` through a whole run: publication, a change of the key, reuse; metrics, slices and gates on `parsed.FIELD`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.engines.contract import Engine
from batchgen.errors import JobFileError
from batchgen.evaluation.scoring.score import score
from batchgen.inspection.verify import verify
from batchgen.job.spec import Job
from batchgen.jobfile.load import load_job
from batchgen.output.job_columns import parse_problems
from batchgen.run.result import RunResult
from batchgen.run.run import run

MakeJob = Callable[..., Path]
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["spam", "ham"]},
        "score": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
ANSWERS = [
    '{"label":"spam","score":1,"tags":["a","b"]}',
    '{"label":"ham","score":0.25,"tags":[]}',
    '{"label":"spam"}',
    "no JSON",
]
ROWS = [{"id": str(n), "q": text, "gold": "spam"} for n, text in enumerate(ANSWERS)]
PARSED = [
    {"label": "spam", "score": 1.0, "tags": ["a", "b"]},
    {"label": "ham", "score": 0.25, "tags": []},
    {"label": "spam", "score": None, "tags": None},
    {"label": None, "score": None, "tags": None},
]
FORM = {"response_format": {"json_schema": SCHEMA}}
"""The engine repeats the prompts that have the form, and answers the last one with `{}`."""


def no_engine(*_: object, **__: object) -> Engine:
    raise AssertionError("an engine is opened")


def parsed(result: RunResult, column: str = "parsed") -> list[Any]:
    assert list(verify(result.folder).issues) == []
    return result.frame()[column].to_list()


def test_answers_are_structs_beside_the_text(make_job: MakeJob) -> None:
    result = run(make_job(ROWS, decoding=FORM, output={"parse": True}))
    assert parsed(result) == PARSED
    frame = result.frame()
    fields: dict[str, pl.DataType | type[pl.DataType]] = {
        "label": pl.String,
        "score": pl.Float64,
        "tags": pl.List(pl.String),
    }
    assert frame.schema["parsed"] == pl.Struct(fields)
    assert frame["response"].to_list() == [*ANSWERS[:3], "{}"]
    assert frame["parsed"].struct.field("score").to_list() == [1.0, 0.25, None, None]


def test_an_answer_that_is_cut_is_not_parsed(make_job: MakeJob) -> None:
    decoding = {**FORM, "max_new_tokens": len(ANSWERS[2]) + 2}
    result = run(make_job(ROWS[:3], decoding=decoding, output={"parse": True}))
    assert result.frame()["finish_reason"].to_list()[:2] == ["length", "length"]
    assert parsed(result)[:2] == [None, None]


def test_the_key_changes_the_columns_of_a_complete_run(make_job: MakeJob) -> None:
    path = make_job(ROWS, decoding=FORM)
    first = run(path)
    assert "parsed" not in first.frame().columns
    with_column = load_job(path, overrides=["output.parse=true", "output.prefix=x."])
    again = run(with_column, opener=no_engine)
    assert again.outcome == "published again"
    assert parsed(again, "x.parsed") == PARSED
    assert run(with_column, opener=no_engine).outcome == "already complete"
    last = run(path, opener=no_engine)
    assert last.frame().columns == first.frame().columns


def test_the_key_changes_the_columns_of_an_unfinished_run(make_job: MakeJob) -> None:
    path = make_job(ROWS, decoding=FORM, batching={"part_rows": 1})
    calls = iter(range(100))
    assert run(path, stop=lambda: next(calls) > 1).outcome == "stopped"
    result = run(load_job(path, overrides=["output.parse=true"]))
    assert result.resumed_rows
    assert parsed(result) == PARSED


def test_reused_answers_are_parsed(make_job: MakeJob) -> None:
    first = run(make_job(ROWS[:2], decoding=FORM))
    second = make_job(ROWS, decoding=FORM, output={"path": "next", "parse": True})
    reused = run(second, incremental_from=first.folder.path)
    assert reused.incremental is not None
    assert (reused.incremental.reused, parsed(reused)) == (2, PARSED)


EVALUATION = {
    "reference": "gold",
    "slices": ["parsed.label", {"column": "parsed.score", "bins": [0.5]}],
    "metrics": [
        {"type": "exact", "field": "parsed.label"},
        {
            "type": "length",
            "name": "of_spam",
            "field": "parsed.score",
            "where": "parsed.label = 'spam'",
        },
        {"type": "distinct", "field": "parsed.label"},
    ],
    "gates": [{"metric": "exact", "slice": "parsed.label=spam", "min": 1.0}],
}


def test_metrics_slices_and_gates_name_fields(make_job: MakeJob) -> None:
    output = {"parse": True}
    result = run(make_job(ROWS, decoding=FORM, output=output, evaluate=EVALUATION))
    assert [gate.verdict for gate in result.gates] == ["passed"]
    frame = result.frame()
    assert frame["score_exact"].to_list() == [1.0, 0.0, 1.0, 0.0]
    assert frame["score_of_spam_characters"].to_list() == [3.0, None, 0.0, None]
    values = {(m.metric, m.slice): (m.value, m.n) for m in result.metrics}
    assert values["exact", "parsed.label=ham"] == (0.0, 1)
    assert values["exact", "parsed.label=null"] == (0.0, 1)
    assert values["exact", "parsed.score=0.5 and up"] == (1.0, 1)
    assert values["distinct_1", "all"][1] == 4
    again = score(
        result.folder.path, [{"type": "exact", "name": "by_score", "field": "parsed.score"}]
    )
    assert [row.n for row in again.metrics if (row.metric, row.slice) == ("by_score", "all")] == [4]


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (
            {"metrics": [{"type": "length", "field": "parsed.other"}]},
            "column 'parsed.other' is not",
        ),
        ({"metrics": ["length"], "slices": ["parsed.other"]}, "column 'parsed.other' is not"),
        (
            {"metrics": [{"type": "perplexity", "column": "q", "field": "parsed.label"}]},
            "has no effect: perplexity",
        ),
    ],
)
def test_unknown_fields_are_rejected(
    make_job: MakeJob, evaluate: dict[str, Any], message: str
) -> None:
    with pytest.raises(JobFileError, match=message):
        run(make_job(ROWS, decoding=FORM, output={"parse": True}, evaluate=evaluate))


def job_of(form: dict[str, Any] | None) -> Job:
    return Job.model_validate(
        {
            "version": 1,
            "name": "x",
            "input": {"path": "x"},
            "prompt": {"user": "x"},
            "model": {"engine": "echo"},
            "decoding": {"response_format": form},
            "output": {"path": "x", "parse": True},
        }
    )


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (None, "has no effect without a JSON Schema of all answers"),
        ({"choice": ["a", "b"]}, "has no effect without a JSON Schema of all answers"),
        ({"json_object": True}, "has no effect without a JSON Schema of all answers"),
        ({"json_schema": SCHEMA, "columns": {"json_schema": "s"}}, "needs one schema for all rows"),
        ({"json_schema": {"type": "object"}}, "leaves the type of the answers open"),
        ({"json_schema": SCHEMA}, None),
        ({"json_schema": "missing.json"}, None),  # reported by the checks of the form
    ],
)
def test_a_form_that_describes_no_types_is_rejected(
    form: dict[str, Any] | None, message: str | None
) -> None:
    problems = parse_problems(job_of(form))
    assert [p.key for p in problems] == ([] if message is None else ["output.parse"])
    assert all(message and message in p.message for p in problems)


def test_the_names_of_all_columns_are_distinct(make_job: MakeJob) -> None:
    rows = [{"q": ANSWERS[0], "parsed": 1}]
    run(make_job(rows, decoding=FORM))
    with pytest.raises(JobFileError, match="parsed have names of answer columns"):
        run(make_job(rows, decoding=FORM, output={"parse": True}))
