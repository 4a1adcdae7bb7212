"""Where a JSON Schema has what cannot be enforced, and what to write instead; what in it is rarely meant."""

import re
from collections.abc import Iterator, Mapping

from batchgen.structured.check_grammar import NO_TEXT

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
_ALWAYS_NAMES = ("properties", "$defs", "definitions")
_NAMES = (*_ALWAYS_NAMES, "patternProperties", "dependentSchemas")
"""Keywords whose mapping has names of the user's as keys."""
_DEEPEST = 64
"""Levels that are searched: a deeper schema is rejected for its depth."""
_VALUES = ("enum", "const", "default", "examples", "required")
"""Keywords with values instead of schemas."""


_SIMPLER = "Write the schema without it, and check the rest with the metric json_schema."
_SATISFIABLE = "Change the schema so that a value satisfies it."
_UNSATISFIABLE = "Unsatisfiable schema: "


def explain_schema_error(schema: object, error: str) -> tuple[Path, str, str]:
    """The path of the keyword that the reason is about (empty if unknown), a message and a hint."""
    reason = " ".join(error.split())
    if error == NO_TEXT:
        return (), f"cannot be satisfied: {reason}", _SATISFIABLE
    if error.startswith(_UNSATISFIABLE):
        return (), f"cannot be satisfied: {reason.removeprefix(_UNSATISFIABLE)}", _SATISFIABLE
    if wrong := re.search(_WRONG_TYPES, error):
        keyword = next(name for name in wrong.groups() if name)
        path = next(
            (p for p, name, value in _keywords(schema, ()) if _wrong(name, value, keyword)), ()
        )
        return path, f"is not a JSON Schema: {reason}", _CORRECT.get(keyword, f"Correct {keyword}.")
    message = f"cannot be enforced: {reason}"
    for path, keyword, value in _keywords(schema, ()):
        if _is_meant(keyword, value, error):
            return path, message, _hint(keyword, error)
    return (), message, _SIMPLER


_WRONG_TYPES = "|".join(
    (
        r"^Expected [a-z0-9 ]+ for '([$\w]+)'",
        r"^([$\w]+) must be (?:a|an) (?:string|object|array)\b",
        r"^invalid (multiple) of",
    )
)
_CORRECT: Mapping[str, str] = {
    "schema": "Write a mapping, true or false where a schema is expected.",
    "multiple": "Write a number above 0 as multipleOf.",
    "type": "Use one of object, array, string, integer, number, boolean, null, or a list of them.",
}
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("enum", "anyOf", "allOf", "oneOf", "prefixItems"), list),
    **dict.fromkeys((*_NAMES, "dependentRequired"), dict),
    **dict.fromkeys(("pattern", "format", "$ref", "$id", "$schema"), str),
}
"""What the value of a keyword must be. Of the others, the library rejects some values of the right type."""
_SCHEMAS = (
    "items",
    "additionalProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)


def _wrong(name: str, value: object, keyword: str) -> bool:
    """Whether the value of a keyword may be the one that the library rejects, which names `keyword`."""
    if keyword == "schema":
        return name in _SCHEMAS and not isinstance(value, dict | bool | list)
    if keyword == "multiple":
        return name == "multipleOf"
    if name != keyword:
        return False
    kind = _TYPES.get(keyword)
    if kind is not None:
        return not isinstance(value, kind)
    return not isinstance(value, int | float) or value < 0


def _hint(keyword: str, error: str) -> str:
    if error.startswith("Pointer"):
        return "Refer to a schema that exists, such as #/$defs/NAME."
    if keyword == "pattern" and not needs_look_around(error):
        return "Correct the regular expression."
    return _INSTEAD.get(keyword, _SIMPLER)


def needs_look_around(error: str) -> bool:
    """Whether the library's reason is about what its regular expressions do not have."""
    return "look-" in error or "backreference" in error


def _is_meant(keyword: str, value: object, error: str) -> bool:
    if named := re.match(r"Unimplemented keys: \[(.*)\]", error):
        return f'"{keyword}"' in named[1]
    if keyword == "oneOf":
        return error.startswith("oneOf")
    if keyword not in ("format", "pattern", "$ref", "type") or not isinstance(value, str):
        return False
    if missing := re.match(r"Pointer '(.*)' does not exist", error):
        return keyword == "$ref" and value.endswith(f"#{missing[1]}")
    starts = {"format": "Unknown format", "type": "Invalid type", "$ref": "Resource"}
    text = value.partition("#")[0] if keyword == "$ref" else value
    return error.startswith(starts.get(keyword, "")) and text in error


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
