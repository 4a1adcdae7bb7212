"""Values inside the cells of a column, by a dotted path: `body.messages` is the field `messages` of the column `body`."""

import json
from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc


def split_path(path: str, columns: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The column and the keys inside its cells. A column whose whole name is the path comes first.

    The column is `path` itself if there is none.
    """
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        column = ".".join(parts[:length])
        if column in columns:
            return column, tuple(parts[length:])
    return path, ()


def value_at(fields: Mapping[str, object], path: str) -> object:
    """The value at a path in a row; None if it is not there. Text on the way is read as JSON."""
    column, keys = split_path(path, fields)
    value = fields.get(column)
    for key in keys:
        value = _as_mapping(value).get(key)
    return value


def type_at(schema: pa.Schema, path: str) -> pa.DataType | None:
    """The type at a path: None if there is no such column or field; text if it is inside JSON text."""
    column, keys = split_path(path, schema.names)
    if column not in schema.names:
        return None
    type_ = schema.field(column).type
    for key in keys:
        if pa.types.is_string(type_):
            return type_
        if not pa.types.is_struct(type_) or type_.get_field_index(key) < 0:
            return None
        type_ = type_.field(key).type
    return type_


def column_at(table: pa.Table, path: str) -> pa.ChunkedArray:
    """The values at a path, which `column_paths` of the table's schema contains; null where a struct above them is."""
    column, keys = split_path(path, table.column_names)
    values = table.column(column)
    for key in keys:
        chunks = [pc.struct_field(chunk, key) for chunk in values.chunks]
        values = pa.chunked_array(chunks, values.type.field(key).type)
    return values


def column_paths(schema: pa.Schema) -> list[str]:
    """The names of all columns, each followed by the paths of the fields in its structs."""
    paths: list[str] = []
    waiting = [(field.name, field.type) for field in schema][::-1]
    while waiting:
        path, type_ = waiting.pop()
        paths.append(path)
        if pa.types.is_struct(type_):
            waiting += [(f"{path}.{field.name}", field.type) for field in type_][::-1]
    return paths


def nested_paths(type_: pa.DataType, column: str) -> Sequence[str]:
    """The paths of the fields of a column; none if it is not a struct."""
    return [f"{column}.{field.name}" for field in type_] if pa.types.is_struct(type_) else []


def _as_mapping(value: object) -> Mapping[str, object]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}
