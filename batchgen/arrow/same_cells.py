"""Whether cells are the same value, so that whatever is computed from them is the same."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_AS_BITS = {pa.float16(): pa.int16(), pa.float32(): pa.int32(), pa.float64(): pa.int64()}
"""Equal floats may differ as text (0.0 and -0.0)."""


def is_comparable(type_: pa.DataType) -> bool:
    """Whether `same_cells` compares cells of this type."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _is_exact_in_python(type_.value_type)
    if pa.types.is_struct(type_):
        return _is_exact_in_python(type_)
    return type_ in _AS_BITS or _is_plain(type_)


def same_cells(one: pa.ChunkedArray, other: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which cells of two columns of one comparable type and length are the same: bool [rows]. Null is the same as null."""
    if pa.types.is_nested(one.type):
        return np.array(
            [a == b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)], bool
        )
    if one.type in _AS_BITS:
        one, other = (_flat(column).view(_AS_BITS[one.type]) for column in (one, other))
    both_null = pc.and_(pc.is_null(one), pc.is_null(other))
    same = pc.coalesce(pc.equal(one, other), both_null)
    return np.asarray(
        same.to_numpy(zero_copy_only=False) if isinstance(same, pa.Array) else same.to_numpy(), bool
    )


def _flat(column: pa.ChunkedArray) -> pa.Array:
    flat = column.combine_chunks()
    return pa.concat_arrays(flat.chunks) if isinstance(flat, pa.ChunkedArray) else flat


def _is_plain(type_: pa.DataType) -> bool:
    of = pa.types
    kinds = (of.is_string, of.is_large_string, of.is_boolean, of.is_integer, of.is_null)
    return any(
        kind(type_) for kind in (*kinds, of.is_timestamp, of.is_date, of.is_time, of.is_decimal)
    )


def _is_exact_in_python(type_: pa.DataType) -> bool:
    """Whether Python objects of this type are equal only if they are the same."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _is_exact_in_python(type_.value_type)
    if pa.types.is_struct(type_):
        return all(_is_exact_in_python(field.type) for field in type_)
    of = pa.types
    return bool(
        of.is_string(type_)
        or of.is_large_string(type_)
        or of.is_boolean(type_)
        or of.is_integer(type_)
    )
