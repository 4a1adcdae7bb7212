"""Row statistics in small number formats, and their sums over clusters."""

import numpy as np
import pytest

from batchgen.evaluation.comparing.exact_rows import ExactRows
from batchgen.evaluation.comparing.paired_rows import RowScores
from batchgen.evaluation.comparing.pairs import smallest
from batchgen.evaluation.comparing.summed_clusters import (
    SummedClusters,
    dense_numbers,
    order_clusters,
)


@pytest.mark.parametrize(
    ("values", "bytes_each"),
    [
        pytest.param([0, 255], 1, id="up to 255"),
        pytest.param([0, 256], 2, id="up to 65,535"),
        pytest.param([65_536, 1], 4, id="up to 4,294,967,295"),
        pytest.param([2**32, 1], 8, id="larger"),
        pytest.param([0.5, 1], 8, id="fractions"),
        pytest.param([-1, 1], 8, id="negative"),
        pytest.param([np.nan, 1], 8, id="not a number"),
        pytest.param([np.inf, 1], 8, id="infinite"),
    ],
)
def test_every_number_is_kept_exactly(values: list[float], bytes_each: int) -> None:
    rows = ExactRows(3, 2)
    rows.put(np.array([2]), np.array([[7.0, 8.0]]))
    rows.put(np.array([0]), np.array([values]))
    expected = np.array([values, [0, 0], [7, 8]])
    assert np.array_equal(rows[:], expected, equal_nan=True)
    assert rows.nbytes == 6 * bytes_each
    chosen = rows.select(np.array([True, False, True]))
    assert np.array_equal(chosen.take(np.array([1])), [[7, 8]])


def test_the_numbers_of_clusters_have_no_gaps() -> None:
    assert dense_numbers(np.array([9, 2, 9, 5], np.uint32)).tolist() == [2, 0, 2, 1]


@pytest.mark.parametrize("clusters", [[0, 1, 0, 2, 2, 0], [5, 3, 0, 1, 2, 4]])
def test_sums_over_clusters_are_those_of_a_whole_table(clusters: list[int]) -> None:
    stats = np.arange(12.0).reshape(6, 2)
    scored = np.array([True, False, True, True, True, False])
    kept = ExactRows(6, 2)
    kept.put(np.arange(6), stats)
    order = order_clusters(np.array(clusters, np.uint32))
    sums = SummedClusters(RowScores(np.zeros(6), scored, kept), order, 2)
    columns = [*stats.T, scored, np.ones(6)]
    expected = np.column_stack([np.bincount(clusters, column) for column in columns])
    assert np.array_equal(sums[: len(sums)], expected)
    assert np.array_equal(sums[1:3], expected[1:3])
    assert sums[:0].shape == (0, 4)


@pytest.mark.parametrize("most", [0, 1, 3, 9])
def test_of_equal_values_the_first_is_the_smallest(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.evaluation.comparing.pairs._BLOCK", 2)
    values = np.array([1.0, 0.0, 1.0, 0.0, np.nan, -1.0, 0.0])
    assert smallest(values, most).tolist() == np.argsort(values, kind="stable")[:most].tolist()
