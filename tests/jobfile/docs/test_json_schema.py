import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from batchgen.engines.engine_registry import ENGINES
from batchgen.job.spec import Job
from batchgen.jobfile.docs.json_schema import job_schema
from batchgen.jobfile.messages.expected_types import all_keys, expected_at

ASSERTIONS = {
    *("type", "enum", "const", "anyOf", "not", "if", "then", "$ref", "required", "properties"),
    *("additionalProperties", "items", "minItems", "minLength", "maxLength", "pattern", "minimum"),
    *("maximum", "exclusiveMinimum", "exclusiveMaximum", "propertyNames"),
}
NOTES = {"$schema", "$id", "title", "description", "default", "definitions"}
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
SCHEMA = job_schema(ENGINES)
MINIMAL: dict[str, Any] = {
    "version": 1,
    "name": "demo",
    "input": {"path": "data.csv"},
    "prompt": {"user": "{{ question }}"},
    "model": "demo:smollm2-135m",
    "output": {"path": "out"},
}


def fits(value: Any, schema: Any) -> bool:
    """Draft-07 for exactly the keywords of `ASSERTIONS`, to test this schema without another package."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:  # draft-07: other keys next to $ref are ignored
        return fits(value, SCHEMA["definitions"][schema["$ref"].removeprefix("#/definitions/")])
    checks = (_general, _numbers, _texts, _arrays, _objects)
    return all(check(value, schema) for check in checks)


def _general(value: Any, schema: dict[str, Any]) -> bool:
    kinds = schema.get("type", list(TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    by_type = any(
        isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        for kind in kinds
    )
    return (
        by_type
        and value in schema.get("enum", [value])
        and bool(value == schema.get("const", value))
        and any(fits(value, one) for one in schema.get("anyOf", [True]))
        and not ("not" in schema and fits(value, schema["not"]))
        and (not fits(value, schema.get("if", False)) or fits(value, schema.get("then", True)))
    )


def _numbers(value: Any, schema: dict[str, Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    inside = schema.get("minimum", value) <= value <= schema.get("maximum", value)
    above = schema.get("exclusiveMinimum", value - 1) < value
    return bool(inside and above and value < schema.get("exclusiveMaximum", value + 1))


def _texts(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, str):
        return True
    longest = schema.get("maxLength", len(value))
    return (
        schema.get("minLength", 0) <= len(value) <= longest
        and re.search(schema.get("pattern", ""), value) is not None
    )


def _arrays(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, list):
        return True
    return len(value) >= schema.get("minItems", 0) and all(
        fits(item, schema.get("items", True)) for item in value
    )


def _objects(value: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    named = schema.get("propertyNames", True)
    return all(name in value for name in schema.get("required", [])) and all(
        fits(name, named) and fits(inner, known.get(name, others)) for name, inner in value.items()
    )


def schemas(part: Any) -> list[dict[str, Any]]:
    """Every schema inside a schema, itself included."""
    if not isinstance(part, dict):
        return []
    inner: list[Any] = [
        part.get(k) for k in ("not", "if", "then", "items", "additionalProperties", "propertyNames")
    ]
    for keyword in ("properties", "definitions"):
        inner += part.get(keyword, {}).values()
    inner += part.get("anyOf", [])
    return [part, *(found for one in inner for found in schemas(one))]


def test_the_schema_is_draft_07_and_uses_known_keywords_only() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert {keyword for one in schemas(SCHEMA) for keyword in one} <= ASSERTIONS | NOTES
    references = {one["$ref"] for one in schemas(SCHEMA) if "$ref" in one}
    assert references == {f"#/definitions/{name}" for name in SCHEMA["definitions"]}
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def followed(schema: dict[str, Any]) -> dict[str, Any]:
    """The section that a schema refers to, or None."""
    names = [one["$ref"].removeprefix("#/definitions/") for one in schema["anyOf"] if "$ref" in one]
    section: dict[str, Any] = SCHEMA["definitions"][names[0]] if names else {}
    return section


def test_every_key_has_a_description() -> None:
    for path in all_keys():
        section = SCHEMA
        for step in path[:-1]:
            section = followed(section["properties"][step])
        expected = expected_at(path)
        assert expected is not None
        key = section["properties"][path[-1]]
        if expected.section is None:
            assert key["description"] == expected.description
        else:
            assert followed(key)["description"]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"$schema": "job.schema.json", "description": None, "decoding": None},
        {"model": {"path": "x", "dtype": "float32", "device": "cuda:1", "revision": None}},
        {"decoding": {"max_tokens": 3, "n": 2, "stop": "x", "temperature": 1}},
        {"decoding": {"max_completion_tokens": 3, "stop": ["x"], "columns": {"top_k": "k"}}},
        {"decoding": {"stop_strings": "x", "generation_kwargs": {"a": [1, {"b": None}]}}},
        {"run": {"seed": "${vars.seed}"}, "vars": {"seed": 3, "x": "y", "z": True}},
        {"input": {"path": ["a", "b"], "limit": 3, "csv": {"delimiter": ";"}}},
        {"prompt": {"messages": [{"role": "user", "content": "x"}]}},
        {"batching": {"max_rows": "auto", "max_tokens": 12}},
        {"output": {"path": "x", "keep_columns": ["a"]}},
        {"profiles": {"a": {"input": {"limit": 3}, "vars": {"x": 1}}, "b": None, "c": {}}},
        {"evaluate": {"metrics": ["exact", {"type": "rouge", "variants": ["L"]}]}},
        {"evaluate": {"slices": ["lang", {"column": "n", "bins": [0, 2.5]}], "ci": {"seed": 1}}},
        {"evaluate": {"gates": [{"metric": "exact", "min": "${vars.least}"}]}},
        {"extends": ["a.yaml"], "input": {"limit": 3}, "model": {"dtype": "auto"}, "name": None},
    ],
)
def test_valid_jobs_match_the_schema(change: dict[str, Any]) -> None:
    assert fits(MINIMAL | change, SCHEMA)


def test_a_job_with_a_base_file_has_no_required_keys() -> None:
    assert fits({"extends": "base.yaml"}, SCHEMA)
    assert not fits({}, SCHEMA)
    for name in ("version", "name", "input", "model", "output"):
        assert not fits({k: v for k, v in MINIMAL.items() if k != name}, SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"name": "a b"},
        {"inputs": {}},
        {"input": {}},
        {"input": {"path": 3}},
        {"input": ""},
        {"output": {"path": ""}},
        {"model": ""},
        {"model": {"device": "gpu"}},
        {"decoding": {"temperatur": 1}},
        {"decoding": {"temperature": "hot"}},
        {"decoding": {"temperature": 11}},
        {"decoding": {"top_p": 0}},
        {"decoding": {"logprobs": "yes"}},
        {"decoding": {"n": 0}},
        {"decoding": {"stop": [1]}},
        {"prompt": {"messages": [{"role": "user"}]}},
        {"prompt": {"max_input_tokens": "${vars.n}"}},
        {"batching": {"max_rows": "some"}},
        {"evaluate": {"metrics": ["exat"]}},
        {"evaluate": {"metrics": [{"name": "x"}]}},
        {"evaluate": {"metrics": [{"type": "exact", "tolerance": 1}]}},
        {"evaluate": {"slices": [{"column": "n"}]}},
        {"evaluate": {"gates": [{"min": 0.5}]}},
        {"vars": {"x": []}},
        {"profiles": {"a": {"decoding": {"temperatur": 1}}}},
        {"profiles": {"a": {"profiles": {}}}},
        {"extends": 3},
    ],
)
def test_jobs_that_the_loader_rejects_do_not_match(change: dict[str, Any]) -> None:
    assert not fits(MINIMAL | change, SCHEMA)


def test_building_the_schema_does_not_change_the_model() -> None:
    before = Job.model_json_schema()
    job_schema(ENGINES)
    assert Job.model_json_schema() == before
    assert job_schema(ENGINES) == SCHEMA
