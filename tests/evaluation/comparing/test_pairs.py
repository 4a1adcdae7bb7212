"""Changes between two scores of one row."""

import polars as pl
import pytest

from batchgen.evaluation.comparing.pairs import pair_rows

COMMON = pl.DataFrame({"id": ["a"], "sample": [0]}, schema={"id": pl.String, "sample": pl.Int32})


def scores(value: float, stats: list[float] | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": ["a"], "sample": [0], "value": [value], "stats": [stats]},
        schema={
            "id": pl.String,
            "sample": pl.Int32,
            "value": pl.Float64,
            "stats": pl.List(pl.Float64),
        },
    )


@pytest.mark.parametrize(
    ("base", "new", "change"),
    [
        pytest.param((1.0, None), (1.0, None), 0.0, id="the same"),
        pytest.param((-11.22, None), (-11.22005, None), 0.0, id="rounding of a log-likelihood"),
        pytest.param((36481.3, None), (36480.0, None), 0.0, id="rounding of a perplexity"),
        pytest.param((0.5, None), (0.501, None), 0.001, id="a change"),
        pytest.param((3.0, [-7.0, 5.0]), (3.0001, [-7.0003, 5.0]), 0.0, id="rounding of sums"),
        pytest.param((0.0, [0.0, 8.0]), (0.0, [0.0, 9.0]), 0.0, id="the same value of other sums"),
        pytest.param((0.0, [1.0]), (0.00005, None), 0.0, id="sums on one side alone"),
    ],
)
def test_rounding_differences_are_not_changes(
    base: tuple[float, list[float] | None], new: tuple[float, list[float] | None], change: float
) -> None:
    rows = pair_rows(scores(*base), scores(*new), COMMON).rows
    assert rows["value_new"][0] - rows["value"][0] == pytest.approx(change, abs=1e-12)


def test_pairs_with_equal_values_but_different_sums_are_kept() -> None:
    rows = pair_rows(scores(0.0, [0.0, 8.0]), scores(0.0, [0.0, 9.0]), COMMON).rows
    assert rows["stats_new"].to_list() == [[0.0, 9.0]]


def test_no_rows_give_no_pairs() -> None:
    assert pair_rows(scores(0.0, None), scores(0.0, None), COMMON.clear()).rows.is_empty()
