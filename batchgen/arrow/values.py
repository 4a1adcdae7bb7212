"""Cells as Python objects, for templates and metrics, and as texts, for comparing keys.

Python's times have microseconds and end with the year 9999; Arrow's have neither limit. The output always contains the
exact values of Arrow.
"""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_COARSE = {
    pa.time64("ns"): pa.time64("us"),
    pa.duration("ns"): pa.duration("us"),
}


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a column of a plain type (see types.py): times cut to microseconds, None if Python lacks the time.

    A time in an unknown time zone becomes UTC.
    """
    type_ = _python_type(column.type)
    values = column if type_ == column.type else column.cast(type_, safe=False)
    try:
        return list(values.to_pylist())
    except (OverflowError, ValueError):
        return [_python_value(cell) for cell in values]


def json_value(value: object) -> object:
    """A Python value as JSON has it: a time in ISO format, binary as base64, a number that is not finite as null."""
    if isinstance(value, Mapping):
        return {str(name): json_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, int | float | str) else str(value)


def key_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The cells of a column of a plain type as text; equal values have equal texts, nulls stay null.

    The text of a number or a time does not depend on its type: 1 and 1.0, milliseconds and nanoseconds. A list or a
    struct is JSON, binary is base64; a time in them that Python lacks makes the whole cell null.
    """
    type_ = column.type
    if pa.types.is_string(type_):
        return column
    if pa.types.is_nested(type_) or pa.types.is_binary(type_):
        texts = [None if value is None else _json_text(value) for value in python_values(column)]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if not pa.types.is_timestamp(type_):
        return _without_trailing_zeros(column.cast(pa.string()), type_)
    zoned = pa.timestamp(type_.unit, known_zone(type_))
    return _without_trailing_zeros(column.cast(zoned).cast(pa.string()), type_)


def _json_text(value: object) -> str:
    plain = json_value(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _without_trailing_zeros(texts: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(type_) and not pa.types.is_time(type_):
        return texts
    zone = r"(Z|[+-]\d+)?$"
    shorter = pc.replace_substring_regex(texts, rf"(\.\d*?)0+{zone}", r"\1\2")
    return pc.replace_substring_regex(shorter, rf"\.{zone}", r"\1")


def _python_value(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return None


def _python_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_):
        unit = "us" if type_.unit == "ns" else type_.unit
        return pa.timestamp(unit, known_zone(type_))
    if pa.types.is_list(type_):
        inner = _python_type(type_.value_type)
        return type_ if inner == type_.value_type else pa.list_(inner)
    if pa.types.is_struct(type_):
        fields = [type_.field(i) for i in range(type_.num_fields)]
        return pa.struct([(field.name, _python_type(field.type)) for field in fields])
    return _COARSE.get(type_, type_)


def known_zone(type_: pa.TimestampType) -> str | None:
    """The time zone of a type, or UTC if this machine does not have it."""
    try:
        pa.scalar(0, type_).as_py()
    except ValueError:
        return "UTC"
    zone: str | None = type_.tz
    return zone
