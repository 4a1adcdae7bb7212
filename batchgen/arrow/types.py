"""Plain Arrow types: the few types that Parquet, Polars and pyarrow all write and read back unchanged.

Every string-like type becomes `string`, every list-like type `list`, a map a list of {key, value}, a column of nulls a
`string` of nulls, and a timestamp in an unknown time zone one in UTC.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from batchgen.arrow.values import known_zone
from batchgen.records import Failure

Position = tuple[int, int]
"""A place in a file, as its reader defines it: a row group or a byte, and the rows or lines before it."""


@dataclass(frozen=True, slots=True)
class TableBatch:
    """Consecutive rows of one file.

    Attributes:
        failures: by position in `table`.
        originals: the cells of some columns as Python objects, where the types of the table, which are those of all rows, would
            change them: 5 to 5.0, or an object to one with the keys of other rows.
        position: where a reader can start again with this batch; None if it would have to read everything before.
    """

    table: pa.Table
    failures: Mapping[int, Failure] = field(default_factory=dict)
    originals: Mapping[str, Sequence[object]] = field(default_factory=dict)
    position: Position | None = None


class UnusableTypeError(TypeError):
    """A type without a plain type."""


def plain_type(type_: pa.DataType) -> pa.DataType:
    """The plain type for the values of a type.

    Raises:
        UnusableTypeError: a union, an interval, a list view, or a struct without fields or with a repeated field.
    """
    if isinstance(type_, pa.BaseExtensionType):
        return plain_type(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return plain_type(type_.value_type)
    if pa.types.is_nested(type_):
        return _plain_nested(type_)
    return _plain_scalar(type_)


def _plain_scalar(type_: pa.DataType) -> pa.DataType:
    for is_kind, plain in _SCALARS:
        if is_kind(type_):
            return type_ if plain is None else plain
    if pa.types.is_timestamp(type_):
        return pa.timestamp(type_.unit, known_zone(type_))
    if pa.types.is_decimal(type_):
        fits = type_.precision <= 38
        return pa.decimal128(type_.precision, type_.scale) if fits else pa.string()
    raise UnusableTypeError(f"type {type_}")


def _is_string_like(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
        or pa.types.is_null(type_)
    )


def _is_binary_like(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_)
        or pa.types.is_large_binary(type_)
        or pa.types.is_binary_view(type_)
        or pa.types.is_fixed_size_binary(type_)
    )


_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType | None], ...] = (
    (_is_string_like, pa.string()),
    (_is_binary_like, pa.binary()),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_date64, pa.date32()),
    (pa.types.is_boolean, None),
    (pa.types.is_integer, None),
    (pa.types.is_floating, None),
    (pa.types.is_date32, None),
    (pa.types.is_time, None),
    (pa.types.is_duration, None),
)
"""Kinds of scalar types and their plain types; None if the type is plain."""


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _plain_nested(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_map(type_):
        pair = [("key", plain_type(type_.key_type)), ("value", plain_type(type_.item_type))]
        return pa.list_(pa.struct(pair))
    if pa.types.is_struct(type_):
        names = [type_.field(i).name for i in range(type_.num_fields)]
        if not names or len(set(names)) != len(names):
            raise UnusableTypeError(
                f"type {type_}: expected at least one field, and different names"
            )
        return pa.struct([(name, plain_type(type_.field(name).type)) for name in names])
    if any(is_list(type_) for is_list in _LISTS):
        return pa.list_(plain_type(type_.value_type))
    raise UnusableTypeError(f"type {type_}")


def unified_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The common type of two types, each plain or null; None if there is none, as for numbers and text."""
    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if _is_binary_like(one) != _is_binary_like(other):
        return None
    fields = [pa.schema([("x", type_)]) for type_ in (one, other)]
    try:
        unified = pa.unify_schemas(fields, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
    return unified.field(0).type


def conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Select and cast the columns of a schema from a table that has them all.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its type. Do not show its text, which contains the value.
    """
    columns = [table.column(field.name) for field in schema]
    cast = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(cast, schema=schema)
