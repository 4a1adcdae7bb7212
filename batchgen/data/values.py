"""Cells as Python objects, for templates and metrics, whatever a column holds.

Python's times are of microseconds and end with the year 9999; Arrow's are not and do not. What reaches the output is
Arrow's and whole. Knows nothing of rows and files.
"""

from typing import Any

import pyarrow as pa

_COARSE = {
    pa.time64("ns"): pa.time64("us"),
    pa.duration("ns"): pa.duration("us"),
}


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a column of a plain type (see tables.py): times cut to microseconds, null where Python has no such time.

    A time zone that this machine does not know is shown as UTC.
    """
    type_ = _python_type(column.type)
    values = column if type_ == column.type else column.cast(type_, safe=False)
    try:
        return list(values.to_pylist())
    except (OverflowError, ValueError):
        return [_python_value(cell) for cell in values]


def _python_value(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except (OverflowError, ValueError):
        return None


def _python_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_):
        unit = "us" if type_.unit == "ns" else type_.unit
        return pa.timestamp(unit, _known_zone(type_))
    if pa.types.is_list(type_):
        inner = _python_type(type_.value_type)
        return type_ if inner == type_.value_type else pa.list_(inner)
    if pa.types.is_struct(type_):
        fields = [type_.field(i) for i in range(type_.num_fields)]
        return pa.struct([(field.name, _python_type(field.type)) for field in fields])
    return _COARSE.get(type_, type_)


def _known_zone(type_: pa.TimestampType) -> str | None:
    try:
        pa.scalar(0, type_).as_py()
    except ValueError:
        return "UTC"
    zone: str | None = type_.tz
    return zone
