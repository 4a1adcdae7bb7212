"""Changes between two scores of one row."""

import numpy as np
import pytest

from batchgen.evaluation.comparing.paired_rows import AnswerKeys, ScoreBlock, pair_rows

COMMON = AnswerKeys(np.zeros(1, np.uint32), np.zeros(1, np.int32))


def scores(value: float, stats: list[float] | None) -> list[ScoreBlock]:
    rows = None if stats is None else np.array([stats])
    return [ScoreBlock(COMMON.ids, COMMON.samples, np.array([value]), rows)]


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
    pairs = pair_rows(scores(*base), scores(*new), COMMON)
    assert pairs.new.values[0] - pairs.base.values[0] == pytest.approx(change, abs=1e-12)


def test_pairs_with_equal_values_but_different_sums_are_kept() -> None:
    pairs = pair_rows(scores(0.0, [0.0, 8.0]), scores(0.0, [0.0, 9.0]), COMMON)
    assert pairs.new.stats is not None
    assert pairs.new.stats[:].tolist() == [[0.0, 9.0]]


def test_no_rows_give_no_pairs() -> None:
    nothing = AnswerKeys(COMMON.ids[:0], COMMON.ids[:0].astype(np.int32))
    assert len(pair_rows(scores(0.0, None), scores(0.0, None), nothing)) == 0
