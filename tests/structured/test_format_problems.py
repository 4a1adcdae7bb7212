"""What `validate` says about `decoding.response_format`: every problem at its line, with a way out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job
from batchgen.run.preflight.input_check import check_input
from batchgen.structured.answer_grammars import AnswerGrammars
from batchgen.structured.format_problems import cell_warnings

MakeJob = Callable[..., Path]
KEY = "decoding.response_format"


def problems(job: Path) -> dict[str, tuple[str, str, str]]:
    """Message, hint and line of each problem, by key."""
    with pytest.raises(JobFileError) as caught:
        check_input(load_job(job))
    lines = job.read_text().splitlines()
    return {p.key: (p.message, p.hint, lines[p.line - 1]) for p in caught.value.problems}


@pytest.mark.parametrize(
    ("form", "key", "said", "hint"),
    [
        pytest.param(
            {"json_schema": {"properties": {"a": {"type": "array", "uniqueItems": True}}}},
            "json_schema.properties.a.uniqueItems",
            "Unimplemented keys",
            "json_schema",
            id="keyword",
        ),
        pytest.param(
            {"json_schema": {"properties": {"not": {"not": {}}}}},
            "json_schema.properties.not.not",
            "Unimplemented keys",
            "Say what is allowed",
            id="keyword that is also a name",
        ),
        pytest.param(
            {"json_schema": {"items": {"format": "zip"}}},
            "json_schema.items.format",
            "Unknown format",
            "pattern",
            id="format",
        ),
        pytest.param(
            {"json_schema": {"$ref": "https://example.org/x"}},
            "json_schema.$ref",
            "not present",
            "$defs",
            id="remote reference",
        ),
        pytest.param(
            {"json_schema": {"anyOf": [{"type": "string", "pattern": "(?=a)b"}]}},
            "json_schema.anyOf[0].pattern",
            "look-ahead",
            "look-around",
            id="pattern",
        ),
        pytest.param(
            {"json_schema": {"oneOf": [{"minimum": 1}, {"maximum": 2}]}},
            "json_schema.oneOf",
            "oneOf",
            "anyOf",
            id="overlapping alternatives",
        ),
        pytest.param(
            {"json_schema": {"type": [{}]}}, "json_schema.type", "must be", "Use", id="mapping"
        ),
        pytest.param(
            {"json_schema": {"properties": {"a": {"$ref": "#/$defs/x"}}}},
            "json_schema.properties.a.$ref",
            "does not exist",
            "Refer to a schema that exists",
            id="missing reference",
        ),
        pytest.param(
            {"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}},
            "json_schema",
            "cannot be satisfied: minimum (5) is greater",
            "so that a value satisfies it",
            id="no value",
        ),
        pytest.param(
            {"json_schema": {"type": "string", "pattern": "^ab$", "maxLength": 1}},
            "json_schema",
            "cannot be satisfied",
            "so that a value satisfies it",
            id="pattern without a value",
        ),
        pytest.param(
            {"json_schema": {"items": {"required": "a"}}},
            "json_schema.items.required",
            "is not a JSON Schema: Expected array",
            "Correct required",
            id="keyword with a wrong value",
        ),
        pytest.param(
            {"json_schema": {"items": 3}},
            "json_schema.items",
            "is not a JSON Schema",
            "a mapping, true or false",
            id="number as schema",
        ),
        pytest.param(
            {"json_schema": {"items": {"pattern": "a("}}},
            "json_schema.items.pattern",
            "unclosed",
            "Correct the regular expression",
            id="broken pattern",
        ),
        pytest.param(
            {"json_schema": {"$ref": "#"}},
            "json_schema",
            "admits no text",
            "so that a value satisfies it",
            id="schema without an end",
        ),
        pytest.param({"regex": "a("}, "regex", "unclosed", "Correct the regular", id="regex"),
        pytest.param({"regex": "(?=a)b"}, "regex", "look-ahead", "look-around", id="look-ahead"),
        pytest.param(
            {"regex": "[^\\s\\S]"}, "regex", "admits no text", "that a text matches", id="no match"
        ),
        pytest.param(
            {"grammar": "start: start"}, "grammar", "admits no text", "that ends", id="no end"
        ),
        pytest.param({"grammar": "start: x"}, "grammar", "unknown name", "Lark", id="grammar"),
        pytest.param(
            {"columns": {"choice": "x"}}, "columns.choice", "not in the", "q", id="column"
        ),
        pytest.param(
            {"json_schema": "no.json"}, "json_schema", "cannot be read", "path", id="no file"
        ),
    ],
)
def test_a_form_that_cannot_be_enforced_is_named(
    make_job: MakeJob, form: dict[str, Any], key: str, said: str, hint: str
) -> None:
    found = problems(make_job(decoding={"response_format": form}))
    ((name, (message, advice, line)),) = found.items()
    assert name == f"{KEY}.{key}"
    assert said in message
    assert hint in advice
    assert key.rpartition(".")[2].strip("0123456789") in line


def test_the_place_in_a_schema_file_is_named(make_job: MakeJob, tmp_path: Path) -> None:
    schema: dict[str, Any] = {"properties": {"a": {"contains": {}}}}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    found = problems(make_job(decoding={"response_format": {"json_schema": "schema.json"}}))
    assert "at #/properties/a/contains" in found[f"{KEY}.json_schema"][0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(r'{"const": "\ud800"}', "surrogate", id="half of a surrogate pair"),
        pytest.param('{"a": {"b": 1, "b": 1}}', 'the key "b" twice', id="key twice"),
        pytest.param('{"items":' * 900 + "{}" + "}" * 900, "levels deep", id="deep"),
        pytest.param('{"const": NaN}', "expected value", id="not a number"),
        pytest.param('{"items":' * 90_000, "is not JSON", id="too deep to read"),
        pytest.param('{\n "a": }', "schema.json:2:7: is not JSON: Expecting value", id="no value"),
    ],
)
def test_a_schema_file_that_cannot_be_used(
    make_job: MakeJob, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "schema.json").write_text(content)
    form = {"response_format": {"json_schema": "schema.json"}}
    found = problems(make_job(decoding=form, output={"path": "out", "parse": True}))
    assert said in found[f"{KEY}.json_schema"][0]


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"anyOf": 3}, id="alternatives that are no list"),
        pytest.param({"type": "object", "properties": ["a"]}, id="properties that are a list"),
        pytest.param({"type": 3}, id="type that is a number"),
        pytest.param({"type": [{}]}, id="type that is a mapping"),
        pytest.param({"type": ["strin", "array"]}, id="unknown type"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_one_problem_with_parse_too(
    make_job: MakeJob, schema: dict[str, Any]
) -> None:
    job = make_job(
        decoding={"response_format": {"json_schema": schema}},
        output={"path": "out", "parse": True},
    )
    (key,) = problems(job)
    assert key.startswith(f"{KEY}.json_schema")


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        pytest.param({"decoding": {"min_new_tokens": 1}}, "decoding.min_new_tokens", id="least"),
        pytest.param({"decoding": {"stop_strings": ["x"]}}, "decoding.stop_strings", id="stop"),
        pytest.param({"decoding": {"num_beams": 2}}, "decoding.num_beams", id="beams"),
        pytest.param(
            {"decoding": {"no_repeat_ngram_size": 2}}, "decoding.no_repeat_ngram_size", id="ngrams"
        ),
        pytest.param(
            {"decoding": {"columns": {"min_new_tokens": "q"}}},
            "decoding.columns.min_new_tokens",
            id="column",
        ),
        pytest.param(
            {"decoding": {"temperature": 1.0, "generation_kwargs": {"typical_p": 0.5}}},
            "decoding.generation_kwargs",
            id="generate",
        ),
        pytest.param({"prompt": {"prefill": '{"'}}, "prompt.prefill", id="prefill"),
    ],
)
def test_what_a_form_excludes(make_job: MakeJob, sections: dict[str, Any], key: str) -> None:
    decoding = {"response_format": {"json_object": True}, **sections.pop("decoding", {})}
    assert list(problems(make_job(decoding=decoding, **sections))) == [key]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        pytest.param({}, "defines no form", id="empty"),
        pytest.param({"regex": "a", "json_object": True}, "cannot be combined", id="two"),
        pytest.param({"choice": ["a", "a"]}, "twice", id="label twice"),
        pytest.param({"columns": {"json_object": "q"}}, "expected one of", id="column"),
        pytest.param({"columns": {"regex": "q", "choice": "q"}}, "several", id="columns"),
    ],
)
def test_a_form_is_one(make_job: MakeJob, form: dict[str, Any], said: str) -> None:
    with pytest.raises(JobFileError, match=said):
        load_job(make_job(decoding={"response_format": form}))


@pytest.mark.parametrize(
    ("form", "warned"),
    [
        ({"grammar": 'start: "a" start | "b" start'}, True),
        ({"grammar": 'start: w " " start\nw: /[a-z]+/'}, True),
        ({"grammar": 'start: "a" start | "b"'}, False),
        ({"regex": "(ab|c)*d{5000}"}, True),
    ],
)
def test_a_form_without_an_answer_that_ends_is_a_warning(
    make_job: MakeJob, form: dict[str, str], *, warned: bool
) -> None:
    found = check_input(load_job(make_job(decoding={"response_format": form}))).warnings
    assert ["no answer that ends" in one for one in found] == [True] * warned


@pytest.mark.parametrize(
    ("kind", "cells", "warned"),
    [
        ("grammar", ['start: "a" | "b"', 'start: "a" start | "b"'], 0),
        ("regex", ["(ab|c)*d{5000}", "a", None, "(ab|c)*d{5000}", "["], 2),
        ("json_schema", ['{"type":"array","items":{"type":"integer"},"minItems":3000}', "{}"], 1),
        ("choice", [["yes", "no"]], 0),
    ],
)
def test_forms_in_cells_without_an_answer_that_ends_are_one_warning(
    kind: str, cells: list[object], warned: int
) -> None:
    grammars = AnswerGrammars(None, kind, "form")
    found = cell_warnings(grammars, [{"form": cell} for cell in cells])
    assert [one.key for one in found] == [f"{KEY}.columns.{kind}"] * bool(warned)
    compiled = sum(cell is not None and cell != "[" for cell in cells)
    assert all(f"for {warned} of the first {compiled} forms" in one.message for one in found)


def test_a_run_warns_of_forms_in_cells_without_an_answer_that_ends(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"q": "?", "form": form} for form in ("a", "(ab|c)*d{5000}")]
    job = make_job(rows, decoding={"response_format": {"columns": {"regex": "form"}}})
    assert call(["plan", str(job)]) == 0
    warning = capsys.readouterr().err
    assert "warning: " in warning
    assert "for 1 of the first 2 forms of column 'form', no answer that ends" in warning
    assert "job.yaml:" in warning


def test_what_is_rarely_meant_is_a_warning(make_job: MakeJob) -> None:
    schema = {
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "array", "items": {"type": "string", "maxLength": 3, "nullable": True}},
        }
    }
    decoding = {"response_format": {"json_schema": schema}, "repetition_penalty": 1.1}
    found = "\n".join(check_input(load_job(make_job(decoding=decoding))).warnings)
    for said in (
        "a string without maxLength",
        "an array without maxItems",
        "nullable",
        "repetition_penalty",
    ):
        assert said in found
