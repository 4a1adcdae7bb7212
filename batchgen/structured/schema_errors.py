"""Where a JSON Schema has what cannot be enforced, and what to write instead; what in it is rarely meant."""

import re
from collections.abc import Iterator, Mapping

Path = tuple[str, ...]

_INSTEAD: Mapping[str, str] = {
    "not": "Say what is allowed, with enum, const or pattern.",
    "if": "Use anyOf with one object schema for each case.",
    "then": "Use anyOf with one object schema for each case.",
    "else": "Use anyOf with one object schema for each case.",
    "oneOf": "Use anyOf, or schemas of different types.",
    "uniqueItems": "Remove it, and check it with the metric json_schema.",
    "contains": "Use prefixItems, or describe all items with items.",
    "minContains": "Use prefixItems, or describe all items with items.",
    "maxContains": "Use prefixItems, or describe all items with items.",
    "propertyNames": "Use patternProperties with additionalProperties: false.",
    "dependentRequired": "Use anyOf with one object schema for each case.",
    "dependentSchemas": "Use anyOf with one object schema for each case.",
    "unevaluatedProperties": "Use additionalProperties: false.",
    "unevaluatedItems": "Use items: false after prefixItems.",
    "format": "Use pattern, or one of date, time, date-time, email, uri, uuid, ipv4, ipv6, hostname, duration.",
    "pattern": "Write it without look-around and back-references.",
    "$ref": "Copy the schema under $defs and write #/$defs/NAME.",
    "type": "Use one of object, array, string, integer, number, boolean, null.",
}
_NAMES = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
"""Keywords whose mapping has names of the user's as keys."""
_DEEPEST = 64
"""Levels that are searched: a deeper schema is rejected for its depth."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords with values instead of schemas."""


def explain_schema_error(schema: object, error: str) -> tuple[Path, str, str]:
    """The path of the keyword that the library's reason is about (empty if unknown), a message and a hint."""
    message = f"cannot be enforced: {' '.join(error.split())}"
    for path, keyword, value in _keywords(schema, ()):
        if _is_meant(keyword, value, error):
            return path, message, _INSTEAD.get(keyword, _SIMPLER)
    return (), message, _SIMPLER


_SIMPLER = "Write the schema without it, and check the rest with the metric json_schema."


def _is_meant(keyword: str, value: object, error: str) -> bool:
    if named := re.match(r"Unimplemented keys: \[(.*)\]", error):
        return f'"{keyword}"' in named[1]
    if keyword == "oneOf":
        return error.startswith("oneOf")
    if keyword not in ("format", "pattern", "$ref", "type") or not isinstance(value, str):
        return False
    starts = {"format": "Unknown format", "type": "Invalid type"}.get(keyword, "")
    return error.startswith(starts) and value in error


def schema_warnings(schema: object) -> Iterator[tuple[str, str]]:
    """Messages and hints about what is allowed and rarely meant; each kind once, at its first place."""
    found: dict[str, tuple[str, str]] = {}
    for path, keyword, value in _keywords(schema, ()):
        place = "/".join(path[:-1]) or "its top"
        if keyword == "nullable":
            message = f"at {place}: nullable is a word of OpenAPI and has no effect"
            found.setdefault(keyword, (message, "Write type: [..., 'null']."))
        if keyword == "unbounded":
            kind = "a string" if value == "string" else "an array"
            limit = "maxLength" if value == "string" else "maxItems"
            message = f"at {place}: {kind} without {limit} may fill max_new_tokens, and the JSON then stays unfinished"
            found.setdefault(kind, (message, f"Set {limit}."))
    yield from found.values()


_BOUNDS = {
    "string": {"maxLength", "enum", "const", "pattern", "format"},
    "array": {"maxItems", "enum", "const"},
}


def _keywords(schema: object, path: Path) -> Iterator[tuple[Path, str, object]]:
    """Every keyword of every schema inside this one, with its path and value; `unbounded` for a type without a limit."""
    if isinstance(schema, list):
        for number, one in enumerate(schema):
            yield from _keywords(one, (*path, str(number)))
    if not isinstance(schema, dict) or len(path) > _DEEPEST:
        return
    for kind in _unbounded(schema):
        yield (*path, "type"), "unbounded", kind
    for keyword, value in schema.items():
        yield (*path, keyword), keyword, value
        inner = value if keyword in _NAMES and isinstance(value, dict) else {"": value}
        for name, one in inner.items() if keyword not in _VALUES else ():
            yield from _keywords(one, (*path, keyword, *([name] if name else ())))


def _unbounded(schema: Mapping[str, object]) -> list[str]:
    kinds = schema.get("type")
    listed = kinds if isinstance(kinds, list) else [kinds]
    named = [kind for kind in listed if isinstance(kind, str) and kind in _BOUNDS]
    return [kind for kind in named if not _BOUNDS[kind] & set(schema)]
