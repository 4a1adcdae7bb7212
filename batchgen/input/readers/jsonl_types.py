"""Column types of JSON values, inferred from many lines.

A column has one type, and a line has values of its own: 5 is a whole number also where another line has 5.5. The type is that of
the published column; `is_exact` is whether it represents the values of some lines as they are.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.types import plain_type, unified_type
from batchgen.errors import DataError
from batchgen.input.readers.json_objects import JsonLines

COLUMN_LIMIT = 2_000
"""Most different keys, including those in nested objects. Beyond it the keys are probably data."""

_CONVERSION_ERRORS = (
    pa.ArrowInvalid,
    pa.ArrowTypeError,
    pa.ArrowNotImplementedError,
    OverflowError,
)
_EXACT = 2**53
_KINDS = {pa.string(): str, pa.int64(): int, pa.float64(): float, pa.bool_(): bool}

_Leaf = tuple[str, ...]
"""Where a value is in a nested one: keys, and [] for the items of a list."""


class ColumnTypes:
    """The types of columns, widened to the values of more and more lines.

    A column whose values fit no single type, such as numbers and texts, is a column of texts: a text as it is, any other value as
    JSON. So is one with a whole number that its type cannot represent exactly.
    """

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._mixed: set[str] = set()
        self._large: dict[str, set[_Leaf]] = {}

    def widen(self, lines: JsonLines) -> None:
        """Widen the types to the values of some lines; DataError if there are too many keys."""
        for key in dict.fromkeys(key for object_ in lines.objects for key in object_):
            old = self._types.get(key, pa.null())
            if key not in self._mixed:
                self._types[key] = self._widened(key, old, lines.column(key))
            if len(self._types) > COLUMN_LIMIT or _width(self._types[key]) > COLUMN_LIMIT:
                raise DataError(
                    f"{lines.path}:{lines.numbers[-1]}: more than {COLUMN_LIMIT:,} different keys so far",
                    hint="Use the same keys in every line. Write data as values, or as JSON text.",
                )

    def schema(self) -> pa.Schema:
        """The columns so far, in the order of their first appearance."""
        return pa.schema([(key, self._column_type(key)) for key in self._types])

    def _widened(self, key: str, old: pa.DataType, values: Sequence[object]) -> pa.DataType:
        try:
            array = pa.array(values)
        except _CONVERSION_ERRORS:
            array = None
        both = None if array is None else unified_type(old, array.type)
        if both is None or _has_bool_as_number(values, both):
            self._mixed.add(key)
            return pa.string()
        self._large.setdefault(key, set()).update(_large_leaves(array, ()))
        return both

    def _column_type(self, key: str) -> pa.DataType:
        type_ = self._types[key]
        inexact = any(
            pa.types.is_floating(_leaf_type(type_, at)) for at in self._large.get(key, ())
        )
        # Parquet has no type for objects without keys.
        return pa.string() if inexact or _holds_empty_object(type_) else plain_type(type_)


def make_column(values: Sequence[object], type_: pa.DataType) -> pa.Array:
    """Convert values to a column of a type from `ColumnTypes.schema`.

    Raises:
        TypeError, ValueError, OverflowError: values that were not among those of the schema.
    """
    try:
        return pa.array(values, type_)
    except _CONVERSION_ERRORS:
        if not pa.types.is_string(type_):
            raise
    return pa.array([_text(value) for value in values], type_)


def is_exact(values: Sequence[object], type_: pa.DataType) -> bool:
    """Whether a column of a type returns these values as they are, and not as those of other lines."""
    kinds = set(map(type, values)) - {type(None)}
    return not kinds or (type_ in _KINDS and kinds == {_KINDS[type_]})


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _has_bool_as_number(values: Sequence[object], type_: pa.DataType) -> bool:
    """Whether true or false is among numbers, anywhere in some values of a type: Arrow takes true for 1.0."""
    if pa.types.is_floating(type_):
        return bool in set(map(type, values))
    if not _holds_fractions(type_):
        return False
    present = [value for value in values if value is not None]
    if pa.types.is_list(type_):
        items = [value for value in present if isinstance(value, list)]
        return _has_bool_as_number(list(chain.from_iterable(items)), type_.value_type)
    objects = [value for value in present if isinstance(value, dict)]
    fields = [type_.field(i) for i in range(type_.num_fields)]
    return any(_has_bool_as_number([o.get(f.name) for o in objects], f.type) for f in fields)


def _large_leaves(array: pa.Array, leaf: _Leaf) -> Iterator[_Leaf]:
    """Where whole numbers are too large for a fraction of 64 bits to be exact."""
    type_ = array.type
    if pa.types.is_integer(type_):
        least, most = pc.min_max(array).values()
        if array.null_count < len(array) and max(-least.as_py(), most.as_py()) > _EXACT:
            yield leaf
    elif pa.types.is_list(type_):
        yield from _large_leaves(array.flatten(), (*leaf, "[]"))
    elif pa.types.is_struct(type_):
        for number, child in enumerate(array.flatten()):
            yield from _large_leaves(child, (*leaf, type_.field(number).name))


def _leaf_type(type_: pa.DataType, leaf: _Leaf) -> pa.DataType:
    for name in leaf:
        if pa.types.is_list(type_):
            type_ = type_.value_type
        elif pa.types.is_struct(type_):
            type_ = type_.field(name).type
    return type_


def _children(type_: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_struct(type_):
        return [type_.field(i).type for i in range(type_.num_fields)]
    return [type_.value_type] if pa.types.is_list(type_) else []


def _holds_fractions(type_: pa.DataType) -> bool:
    return pa.types.is_floating(type_) or any(map(_holds_fractions, _children(type_)))


def _holds_empty_object(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_) and type_.num_fields == 0:
        return True
    return any(map(_holds_empty_object, _children(type_)))


def _width(type_: pa.DataType) -> int:
    return 1 + sum(map(_width, _children(type_)))
