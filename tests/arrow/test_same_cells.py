"""Cells that are the same: whatever a template renders from them is the same."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from batchgen.arrow.same_cells import is_comparable, same_cells

ROLES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@pytest.mark.parametrize(
    ("type_", "one", "other", "same"),
    [
        pytest.param(pa.string(), "a", "a", True, id="texts"),
        pytest.param(pa.string(), "a", "a ", False, id="other texts"),
        pytest.param(pa.string(), None, None, True, id="nulls"),
        pytest.param(pa.string(), None, "", False, id="null and an empty text"),
        pytest.param(pa.int64(), 2**62, 2**62 + 1, False, id="long numbers"),
        pytest.param(pa.bool_(), True, True, True, id="booleans"),
        pytest.param(pa.float64(), 0.1, 0.1, True, id="floats"),
        pytest.param(pa.float64(), 0.0, -0.0, False, id="zeros that differ as text"),
        pytest.param(pa.float64(), float("nan"), float("nan"), True, id="NaN"),
        pytest.param(pa.float64(), None, float("nan"), False, id="null and NaN"),
        pytest.param(pa.float32(), None, 0.0, False, id="null and 0"),
        pytest.param(
            pa.timestamp("us", "UTC"),
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=UTC),
            True,
            id="times",
        ),
        pytest.param(
            ROLES,
            [{"role": "user", "content": "a"}],
            [{"role": "user", "content": "b"}],
            False,
            id="messages",
        ),
        pytest.param(ROLES, [], None, False, id="null and an empty list"),
        pytest.param(
            ROLES,
            [{"role": "user", "content": "a"}],
            [{"role": "user", "content": "a"}],
            True,
            id="equal messages",
        ),
    ],
)
def test_cells_are_the_same(type_: pa.DataType, one: Any, other: Any, same: bool) -> None:
    assert is_comparable(type_)
    first, second = pa.array([one], type_), pa.array([other, other], type_).slice(1)
    columns = (pa.chunked_array([first, first]), pa.chunked_array([second, second]))
    assert same_cells(*columns).tolist() == [same, same]


def test_columns_without_rows_have_no_cells_to_compare() -> None:
    for type_ in (pa.string(), pa.float64(), ROLES):
        empty = pa.chunked_array([], type_)
        assert same_cells(empty, empty).tolist() == []


@pytest.mark.parametrize(
    "type_",
    [
        pytest.param(pa.list_(pa.float64()), id="list of floats"),
        pytest.param(pa.struct([("x", pa.list_(pa.float32()))]), id="floats in a struct"),
        pytest.param(pa.list_(pa.timestamp("ns")), id="times that Python lacks"),
    ],
)
def test_cells_whose_equality_does_not_prove_equal_texts_are_not_compared(
    type_: pa.DataType,
) -> None:
    assert not is_comparable(type_)
