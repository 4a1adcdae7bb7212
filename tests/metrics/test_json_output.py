"""JSON and JSON Schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import DataError
from tests.metrics.conftest import MakeMetrics, ScoreOf

TICKET = {
    "type": "object",
    "required": ["topic"],
    "properties": {"topic": {"enum": ["billing", "退款"]}, "n": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("text", "value", "status", "rule"),
    [
        ('{"a": [1, 2.5e3, "好", null, true]}', 1, "ok", None),
        (" [] ", 1, "ok", None),
        ("3", 1, "ok", None),
        ('"\\ud800\\u0000"', 1, "ok", None),
        ("9" * 5000, 1, "ok", None),
        ("{'a': 1}", 0, "no_answer", "syntax"),
        ('{"a": 1,}', 0, "no_answer", "syntax"),
        ("[NaN]", 0, "no_answer", "constant"),
        ('{"a": 1, "a": 2}', 0, "no_answer", "repeated key"),
        ("[" * 100_000, 0, "no_answer", "depth"),
        ('Here: {"a": 1}', 0, "no_answer", "syntax"),
        ('```json\n{"a": 1}\n```', 0, "no_answer", "fenced"),
        ("", 0, "empty", "syntax"),
        ("\ufeff{}", 0, "no_answer", "syntax"),
    ],
)
def test_json(score: ScoreOf, text: str, value: int, status: str, rule: str | None) -> None:
    found = score("json", text)
    assert (found.value, found.status, found.rule) == (value, status, rule)


def test_a_truncated_response_has_that_reason(score: ScoreOf) -> None:
    assert score("json", '{"a": ', at={"finish_reason": "length"}).status == "truncated"


def test_a_fence_is_accepted_on_request(score: ScoreOf) -> None:
    assert score("json", '```json\n{"a": 1}\n```', allow_code_fence=True).value == 1.0
    assert score("json", '```\n{"a": \n```', allow_code_fence=True).value == 0.0


def written(tmp_path: Path, schema: Any) -> str:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema), "utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("text", "value", "rule"),
    [
        ('{"topic": "退款", "n": 3}', 1, None),
        ('{"n": 3}', 0, "required"),
        ('{"topic": "other"}', 0, "enum"),
        ('{"topic": "billing", "n": -1}', 0, "minimum"),
        ("[]", 0, "type"),
        ("not JSON", 0, "syntax"),
        ('{"topic": "\\ud800"}', 0, "surrogate"),
    ],
)
def test_json_schema(
    score: ScoreOf, tmp_path: Path, text: str, value: int, rule: str | None
) -> None:
    found = score("json_schema", text, schema=written(tmp_path, TICKET))
    assert (found.value, found.rule) == (value, rule)


def test_a_schema_pattern_has_a_time_limit(score: ScoreOf, tmp_path: Path) -> None:
    file = written(tmp_path, {"type": "string", "pattern": "^(a+)+$"})
    assert score("json_schema", json.dumps("a" * 5000 + "!"), schema=file).value == 0.0


def test_depth_in_a_recursive_schema(score: ScoreOf, tmp_path: Path) -> None:
    file = written(tmp_path, {"type": "array", "items": {"$ref": "#"}})
    assert score("json_schema", "[" * 900 + "]" * 900, schema=file).value == 1.0


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://example.com/s.json"},
        {"allOf": [{"$ref": "file:///etc/passwd"}]},
        {"properties": {"a": {"$ref": "other.json#/x"}}},
    ],
)
def test_a_schema_with_external_references_is_rejected(
    make: MakeMetrics, tmp_path: Path, schema: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match="refers to"):
        make("json_schema", schema=written(tmp_path, schema))


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"type": "nope"}', "is not a JSON Schema"), ("{", "is not JSON"), (None, "cannot be read")],
)
def test_the_error_of_an_invalid_schema_names_its_file(
    make: MakeMetrics, tmp_path: Path, content: str | None, message: str
) -> None:
    file = tmp_path / "s.json"
    if content is not None:
        file.write_text(content, "utf-8")
    with pytest.raises(DataError, match=f"s.json: {message}"):
        make("json_schema", schema=str(file))


def test_the_signature_distinguishes_schemas(make: MakeMetrics, tmp_path: Path) -> None:
    first, second = (
        make("json_schema", schema=written(tmp_path, schema))[0].spec.signature
        for schema in ({"type": "object"}, {"type": "array"})
    )
    assert first != second
