"""Column types of JSON values, inferred from many lines, and explanations of conflicts."""

import json
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from batchgen.arrow.types import plain_type, unified_type
from batchgen.errors import DataError
from batchgen.input.readers.jsonl_lines import JsonLines

COLUMN_LIMIT = 2_000
"""Most different keys, including those in nested objects. Beyond it the keys are probably data."""

_CONVERSION_ERRORS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
)
_EXACT = 2**53


class TypeConflictError(Exception):
    """Values of the column `key` fit no single type."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def widen_types(types: dict[str, pa.DataType], lines: JsonLines) -> None:
    """Widen the types of columns, in place, to the values of some lines.

    Raises:
        TypeConflictError: no type fits all values of a column.
        DataError: too many keys.
    """
    for key in dict.fromkeys(key for object_ in lines.objects for key in object_):
        try:
            new = pa.array(lines.column(key)).type
        except _CONVERSION_ERRORS as error:
            raise TypeConflictError(key) from error
        old = types.get(key)
        both = new if old is None else unified_type(old, new)
        if both is None:
            raise TypeConflictError(key)
        types[key] = both
        if len(types) > COLUMN_LIMIT or _width(both) > COLUMN_LIMIT:
            raise DataError(
                f"{lines.path}:{lines.numbers[-1]}: more than {COLUMN_LIMIT:,} different keys so far",
                hint="Use the same keys in every line. Write data as values, or as JSON text.",
            )


def column_type(type_: pa.DataType) -> pa.DataType:
    """The type of a column, from that of its values; JSON text if Parquet has no type for them."""
    return pa.string() if _holds_empty_object(type_) else plain_type(type_)


def make_column(key: str, values: Sequence[object], type_: pa.DataType) -> pa.Array:
    """Convert values to a column of a type from `column_type`.

    Raises:
        TypeConflictError: an integer that a column of fractions cannot represent exactly.
    """
    try:
        return pa.array(values, type_)
    except _CONVERSION_ERRORS as error:
        if not pa.types.is_string(type_):
            raise TypeConflictError(key) from error
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return pa.array(texts, type_)


def type_conflict(key: str, lines: Iterable[JsonLines]) -> DataError:
    """The error for the first two conflicting values of a column, with their lines."""
    seen: dict[str, dict[str, str]] = {}
    location = ""
    for location, value in _located_values(key, lines):
        for name, inner in _values(key, value):
            kinds = seen.setdefault(name, {})
            kinds.setdefault(_kind(inner), location)
            if problem := _problem(name, kinds):
                return problem
    return DataError(
        f"{location}: the values of column {key!r} up to this line fit no column type",
        hint="Write them as text.",
    )


def _located_values(key: str, lines: Iterable[JsonLines]) -> Iterator[tuple[str, object]]:
    for block in lines:
        for number, value in zip(block.numbers, block.column(key), strict=True):
            yield f"{block.path}:{number}", value


def _problem(name: str, kinds: dict[str, str]) -> DataError | None:
    """The error if the kinds of a column conflict; `kinds` maps each kind to its first file and line."""
    if location := kinds.get("a whole number of more than 64 bits"):
        return DataError(
            f"{location}: column {name!r} contains a whole number of more than 64 bits",
            hint="Write it as text, in quotes, in every line.",
        )
    if set(kinds) <= {"a whole number", "a number"} or len(kinds) == 1:
        return None
    if set(kinds) == {"a whole number", "a large whole number"}:
        return None
    (one, first), (other, second) = list(kinds.items())[:2]
    if {one, other} == {"a whole number", "a number"}:
        other, second = list(kinds.items())[2]
    return DataError(
        f"{second}: column {name!r} contains {other}, but {one} in {first}; expected one kind in all lines",
        hint="Write it as text, in quotes, in every line.",
    )


def _values(name: str, value: object) -> Iterator[tuple[str, object]]:
    """A value and its nested values, by name, such as `messages[].role`; without nulls."""
    if value is None:
        return
    yield name, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _values(f"{name}.{key}", child)
    elif isinstance(value, list):
        for child in value:
            yield from _values(f"{name}[]", child)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            return "a whole number of more than 64 bits"
        return "a whole number" if abs(value) <= _EXACT else "a large whole number"
    kinds = {float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "an object")


def _children(type_: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_struct(type_):
        return [type_.field(i).type for i in range(type_.num_fields)]
    return [type_.value_type] if pa.types.is_list(type_) else []


def _holds_empty_object(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_) and type_.num_fields == 0:
        return True
    return any(map(_holds_empty_object, _children(type_)))


def _width(type_: pa.DataType) -> int:
    return 1 + sum(map(_width, _children(type_)))
