"""The column `parsed`: answers in JSON as Arrow values, with the types that their JSON Schema describes.

    {"type": "object", "properties":                struct<label: string, score: double, tags: list<string>>
      {"label": {"enum": ["a", "b"]},               {label: "a", score: 0.5, tags: ["x"]}
       "score": {"type": "number"}, ...}}           null for an answer that is unfinished or not of these types

A value whose type the schema leaves open, such as a union or a recursive one, is JSON text. Properties that the schema
does not name are not in the column; the response has them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import pyarrow as pa

PARSED = "parsed"
"""Name of the column, without `output.prefix`."""

_INT64 = range(-(2**63), 2**63)


class _OtherTypeError(Exception):
    """A value is not of the type that the schema describes."""


MOST_FIELDS = 2000
"""Objects of a schema beyond so many fields are JSON text."""


@dataclass(frozen=True, slots=True)
class ValueShape:
    """The Arrow type of a JSON value, and the conversion to it, which raises for a value of another type."""

    type: pa.DataType
    convert: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class AnswerParser:
    """Parses answers by a JSON Schema.

    Attributes:
        after: the text after which the JSON begins; empty: at once.
    """

    shape: ValueShape
    after: str = ""

    def column(self, responses: Sequence[str | None], reasons: Sequence[str]) -> pa.Array:
        """The values of these answers; null where one did not end by itself, is not JSON, or has other types."""
        values = [
            self._value(text) if text is not None and reason == "stop" else None
            for text, reason in zip(responses, reasons, strict=True)
        ]
        return pa.array(values, self.shape.type)

    def _value(self, text: str) -> object:
        found = text.partition(self.after)[2] if self.after else text
        try:
            return _or_null(self.shape).convert(json.loads(found, parse_constant=_refuse))
        except (_OtherTypeError, ValueError, RecursionError):
            return None


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def answer_shape(schema: object) -> ValueShape | None:
    """The shape of an answer by its JSON Schema; None if the schema describes no types, so that there is nothing to parse."""
    shape = _Shapes(schema).shape(schema)
    return None if shape is JSON_TEXT else shape


@dataclass(slots=True)
class _Shapes:
    """Finds shapes.

    `root` is what references begin in, `pending` the references that are being followed, `fields` the number of fields so
    far: definitions that reference others several times would make a number of fields that doubles with each.
    """

    root: object
    pending: set[str] = field(default_factory=set)
    fields: int = 0

    def shape(self, schema: object) -> ValueShape:
        if not isinstance(schema, Mapping):
            return JSON_TEXT
        if isinstance(reference := schema.get("$ref"), str):
            return self._referenced(reference)
        if "const" in schema or "enum" in schema:
            return _shape_of_values(schema.get("enum", [schema.get("const")]))
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return self._combined(schema, key)
        return self._typed(schema)

    def _typed(self, schema: Mapping[str, Any]) -> ValueShape:
        types = schema.get("type")
        kinds = [types] if isinstance(types, str) else list(types or ())
        if len(set(kinds) - {"null"}) > 1:
            return _common([self._of_kind(kind, schema) for kind in kinds if kind != "null"])
        kind = next(
            (kind for kind in kinds if kind != "null"), "object" if "properties" in schema else ""
        )
        return self._of_kind(kind, schema)

    def _of_kind(self, kind: str, schema: Mapping[str, Any]) -> ValueShape:
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._array(schema)
        return _SCALARS.get(kind, JSON_TEXT)

    def _object(self, schema: Mapping[str, Any]) -> ValueShape:
        properties = schema.get("properties") or {}
        self.fields += len(properties)
        if not properties or "patternProperties" in schema or self.fields > MOST_FIELDS:
            return JSON_TEXT
        shapes = {name: self.shape(one) for name, one in properties.items()}

        def convert(value: object) -> dict[str, object]:
            if not isinstance(value, dict):
                raise _OtherTypeError("not an object")
            return {name: _or_null(one).convert(value.get(name)) for name, one in shapes.items()}

        return ValueShape(pa.struct([(name, one.type) for name, one in shapes.items()]), convert)

    def _array(self, schema: Mapping[str, Any]) -> ValueShape:
        if "prefixItems" in schema or not isinstance(schema.get("items"), Mapping):
            return JSON_TEXT
        item = self.shape(schema["items"])

        def convert(value: object) -> list[object]:
            if not isinstance(value, list):
                raise _OtherTypeError("not an array")
            return [_or_null(item).convert(one) for one in value]

        return ValueShape(pa.list_(item.type), convert)

    def _referenced(self, reference: str) -> ValueShape:
        if reference in self.pending:
            return JSON_TEXT
        self.pending.add(reference)
        try:
            return self.shape(_resolved(self.root, reference))
        finally:
            self.pending.discard(reference)

    def _combined(self, schema: Mapping[str, Any], key: str) -> ValueShape:
        members = [one for one in schema[key] if one != {"type": "null"}]
        if key == "allOf" and len(members) > 1:
            return JSON_TEXT
        return _common([self.shape(one) for one in members])


def _common(shapes: Sequence[ValueShape]) -> ValueShape:
    """The shape that all members of a union have; a number for integers and numbers, else JSON text."""
    if len(shapes) == 1:
        return shapes[0]
    kinds = {str(one.type) for one in shapes}
    if kinds <= {"int64", "double"} and shapes:
        return _SCALARS["integer" if kinds == {"int64"} else "number"]
    scalars = [one for one in _SCALARS.values() if all(one is shape for shape in shapes)]
    return scalars[0] if scalars and shapes else JSON_TEXT


def _shape_of_values(values: object) -> ValueShape:
    listed = values if isinstance(values, list) else []
    return _common(
        [_SCALARS.get(_KINDS.get(type(one), ""), JSON_TEXT) for one in listed if one is not None]
    )


def _resolved(root: object, reference: str) -> object:
    """What a reference within the schema names; nothing for one that leads outside."""
    found = root if reference.startswith("#") else None
    for part in reference.lstrip("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _or_null(shape: ValueShape) -> ValueShape:
    """The same shape, which also accepts null."""
    return ValueShape(shape.type, lambda value: None if value is None else shape.convert(value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _OtherTypeError("not a string")
    value.encode()  # UnicodeEncodeError is a ValueError: JSON can write halves of surrogate pairs
    return value


def _integer(value: object) -> int:
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if type(whole) is not int or whole not in _INT64:
        raise _OtherTypeError("not an integer of 64 bits")
    return whole


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _OtherTypeError("not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise _OtherTypeError("not a number of 64 bits") from error


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _OtherTypeError("not a boolean")
    return value


def _json_text(value: object) -> str:
    return _text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


JSON_TEXT = ValueShape(pa.string(), _json_text)
_SCALARS: Mapping[str, ValueShape] = {
    "string": ValueShape(pa.string(), _text),
    "integer": ValueShape(pa.int64(), _integer),
    "number": ValueShape(pa.float64(), _number),
    "boolean": ValueShape(pa.bool_(), _boolean),
}
_KINDS: Mapping[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
