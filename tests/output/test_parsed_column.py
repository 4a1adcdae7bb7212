"""The column `parsed`: the Arrow type of each construct of JSON Schema, and what becomes of answers that do not fit."""

import json
from typing import Any

import pyarrow as pa
import pytest

from batchgen.output.parsed_column import MOST_FIELDS, AnswerParser, answer_shape

TEXT, INTEGER, NUMBER, BOOLEAN = pa.string(), pa.int64(), pa.float64(), pa.bool_()
NODE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
}


@pytest.mark.parametrize(
    ("schema", "type_", "value", "cell"),
    [
        ({"type": "string", "format": "date"}, TEXT, "2026-01-31", "2026-01-31"),
        ({"type": "integer"}, INTEGER, 3, 3),
        ({"type": "integer"}, INTEGER, 3.0, 3),
        ({"type": "number"}, NUMBER, 3, 3.0),
        ({"type": "boolean"}, BOOLEAN, False, False),
        ({"type": ["string", "null"]}, TEXT, None, None),
        ({"type": ["integer", "number"]}, NUMBER, 1, 1.0),
        ({"type": ["integer", "string"]}, TEXT, 1, "1"),
        ({"type": ["integer", "string"]}, TEXT, "1", '"1"'),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, INTEGER, 1, 1),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, TEXT, "a", "a"),
        ({"anyOf": [{"type": "string"}, {"type": "array"}]}, TEXT, ["a"], '["a"]'),
        ({"allOf": [{"type": "integer"}]}, INTEGER, 1, 1),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}]}, TEXT, 1, "1"),
        ({"enum": ["a", "b", None]}, TEXT, "b", "b"),
        ({"enum": [1, 2.5]}, NUMBER, 1, 1.0),
        ({"enum": [1, "a"]}, TEXT, "a", '"a"'),
        ({"const": True}, BOOLEAN, True, True),
        ({"type": "null"}, TEXT, None, None),
        ({}, TEXT, {"a": "é"}, '{"a":"é"}'),
        (True, TEXT, 1.5, "1.5"),
        ({"type": "array", "items": {"type": "integer"}}, pa.list_(INTEGER), [1, None], [1, None]),
        ({"type": "array"}, TEXT, [1, "a"], '[1,"a"]'),
        ({"type": "array", "prefixItems": [{"type": "integer"}]}, TEXT, [1], "[1]"),
        ({"type": "object"}, TEXT, {"a": 1}, '{"a":1}'),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            TEXT,
            {"a": 1},
            '{"a":1}',
        ),
        (
            {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
            pa.struct([("a", INTEGER), ("b", TEXT)]),
            {"b": "x", "other": 1},
            {"a": None, "b": "x"},
        ),
        ({"$ref": "#/$defs/short"}, TEXT, "a", "a"),
        (
            {"$ref": "#/$defs/node"},
            pa.struct([("name", TEXT), ("next", TEXT)]),
            {"name": "a", "next": {"name": "b"}},
            {"name": "a", "next": '{"name":"b"}'},
        ),
        ({"$ref": "other.json"}, TEXT, 1, "1"),
    ],
)
def test_the_type_of_a_property(
    schema: Any, type_: pa.DataType, value: object, cell: object
) -> None:
    root = {
        "type": "object",
        "properties": {"x": schema},
        "$defs": {"node": NODE, "short": {"type": "string", "maxLength": 3}},
    }
    shape = answer_shape(root)
    assert shape is not None
    assert shape.type == pa.struct([("x", type_)])
    column = AnswerParser(shape).column([json.dumps({"x": value})], ["stop"])
    assert column.to_pylist() == [{"x": cell}]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {"type": ["string", "integer"]},
        {"$ref": "#"},
        {"allOf": [{}, {}]},
    ],
)
def test_a_schema_without_types_has_no_shape(schema: object) -> None:
    assert answer_shape(schema) is None


def test_the_number_of_fields_is_bounded() -> None:
    """16 definitions, each with two references to the next: 65,536 leaves."""
    two = [
        {"a": {"$ref": f"#/$defs/d{n + 1}"}, "b": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(16)
    ]
    defs = {f"d{n}": {"type": "object", "properties": one} for n, one in enumerate(two)}
    defs["d16"] = {"type": "integer"}
    shape = answer_shape({"$defs": defs, "$ref": "#/$defs/d0"})
    assert shape is not None
    assert str(shape.type).count("int64") + str(shape.type).count("string") <= MOST_FIELDS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"n": 1', "length"),
        ('{"n": 1}', "length"),
        ('{"n": 1}', "stop_string"),
        (None, "error"),
        ("n is 1", "stop"),
        ('{"n": "1"}', "stop"),
        ('{"n": true}', "stop"),
        ('{"n": NaN}', "stop"),
        ('{"n": 1.5}', "stop"),
        (f'{{"n": {2**63}}}', "stop"),
        (f'{{"n": {"9" * 5000}}}', "stop"),
        ('{"s": "\\ud800"}', "stop"),
        ("[1]", "stop"),
        ("[" * 100_000, "stop"),
    ],
)
def test_an_answer_that_is_unfinished_or_of_other_types_is_null(
    text: str | None, reason: str
) -> None:
    schema = {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}
    shape = answer_shape(schema)
    assert shape is not None
    column = AnswerParser(shape).column(['{"n": 2}', text], ["stop", reason])
    assert column.to_pylist() == [{"n": 2, "s": None}, None]


def test_the_json_begins_after_a_mark() -> None:
    shape = answer_shape({"type": "array", "items": {"type": "integer"}})
    assert shape is not None
    parser = AnswerParser(shape, after="</think>")
    assert parser.column(["[3] </think>[1,2]", "[3]"], ["stop"] * 2).to_pylist() == [[1, 2], None]
