"""Ranks of texts: the order of Polars, by bytes, whatever the number of ranges."""

from collections.abc import Iterator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.evaluation.comparing import text_order
from batchgen.evaluation.comparing.text_order import order_texts

TEXTS = st.lists(st.lists(st.none() | st.text(max_size=3), max_size=6), max_size=6)


@pytest.mark.parametrize("at_once", [1, 3, 500_000])
@given(blocks=TEXTS)
def test_ranks_are_those_of_all_texts_sorted_at_once(
    at_once: int, blocks: list[list[str | None]]
) -> None:
    series = [pl.Series("text", block, pl.String) for block in blocks]

    def read() -> Iterator[pl.Series]:
        return iter(series)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_order, "TEXTS_AT_ONCE", at_once)
        order = order_texts(read)
    expected = pl.concat([pl.Series("text", [], pl.String), *series]).rank("dense") - 1
    found = pl.concat([pl.Series("text", [], pl.UInt32), *map(order.encode, series)])
    assert found.to_list() == expected.to_list()


def test_a_text_that_was_not_ordered_has_no_rank() -> None:
    order = order_texts(lambda: iter([pl.Series(["b", "a", None])]))
    assert order.encode(pl.Series(["a", "c", "b", None])).to_list() == [0, None, 1, None]
