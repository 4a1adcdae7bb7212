"""Comparisons of corpus metrics: intervals of the bootstrap, p by swapped rows, checked with scipy and by simulation."""

import numpy as np
import pytest
import scipy.stats

from batchgen.metrics.statistics import corpus_tests
from batchgen.metrics.statistics.corpus_tests import MAX_SWAPPED, compare_corpora
from batchgen.metrics.statistics.intervals import Confidence, Floats, ValueRange
from batchgen.metrics.statistics.paired_results import NO_PAIRS

CONFIDENCE = Confidence()
PERCENT = ValueRange(0.0, 100.0)


def ratio(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1]


def test_two_corpora_use_the_same_resamples() -> None:
    rng = np.random.default_rng(5)
    sizes = rng.integers(5, 50, 300).astype(np.float64)
    base = np.stack([sizes * rng.uniform(0.4, 0.6, 300), sizes], axis=1)
    new = base + np.stack([sizes * rng.normal(0.01, 0.02, 300), np.zeros(300)], axis=1)
    found = compare_corpora(base, new, ratio, CONFIDENCE)
    assert found.value == pytest.approx(ratio(new.sum(axis=0)) - ratio(base.sum(axis=0)))
    gains = new[:, 0] - base[:, 0]
    centred = gains - sizes * gains.sum() / sizes.sum()
    linear = np.sqrt((centred**2).sum()) / sizes.sum()
    assert found.stderr == pytest.approx(linear, rel=0.1)
    assert found.p == pytest.approx(1 / 10_001)


@pytest.mark.parametrize(("differing", "least"), [(2, 0.5), (3, 0.25), (5, 0.0625)])
def test_a_few_equal_changes_are_not_evidence(differing: int, least: float) -> None:
    sizes = np.full(6, 10.0)
    base = np.stack([np.linspace(4, 5, 6), sizes], axis=1)
    new = base.copy()
    new[:differing, 0] += 1.0
    found = compare_corpora(base, new, ratio, CONFIDENCE)
    assert found.p is not None
    assert found.p >= least
    assert compare_corpora(base[:differing], new[:differing], ratio, CONFIDENCE).p == least


def percent(sums: Floats) -> Floats:
    return 100 * ratio(sums)


def test_runs_without_common_rows_have_no_difference() -> None:
    assert compare_corpora(np.empty((0, 2)), np.empty((0, 2)), ratio, CONFIDENCE) == NO_PAIRS


@pytest.mark.parametrize("count", [2, 6, 12])
def test_few_rows_try_every_swap(count: int) -> None:
    rng = np.random.default_rng(count)
    base, new = rng.uniform(1, 9, (2, count, 2))
    found = compare_corpora(base, new, ratio, CONFIDENCE)

    def difference(before: Floats, now: Floats, axis: int) -> Floats:
        return ratio(now.sum(axis=axis)) - ratio(before.sum(axis=axis))

    observed = abs(difference(base, new, 0))
    swaps = np.array(np.meshgrid(*[[0, 1]] * count)).reshape(count, -1).T[:, :, None]
    before, now = np.where(swaps, new, base), np.where(swaps, base, new)
    every = np.abs(difference(before, now, 1))
    assert found.test == "exact randomization"
    assert found.p == pytest.approx((every >= observed - 1e-12).mean())


def test_p_of_many_rows_is_that_of_scipy() -> None:
    """With equal sizes the corpus value is the mean, whose randomization test is scipy's."""
    rng = np.random.default_rng(8)
    sizes = np.ones(60)
    base, new = rng.normal(5, 1, 60), rng.normal(5.4, 1, 60)
    found = compare_corpora(
        np.stack([base, sizes], axis=1), np.stack([new, sizes], axis=1), ratio, CONFIDENCE
    )
    oracle = scipy.stats.permutation_test(
        (new, base),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=50_000,
        vectorized=True,
        rng=0,
    )
    assert found.test == "approximate randomization"
    assert found.p == pytest.approx(oracle.pvalue, abs=0.01)


def test_groups_of_very_many_rows_are_swapped_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    count = 4_000
    sizes = rng.integers(5, 50, count).astype(np.float64)
    base = np.stack([sizes * rng.uniform(0.3, 0.7, count), sizes], axis=1)
    new = np.stack([sizes * rng.uniform(0.302, 0.702, count), sizes], axis=1)
    assert count < MAX_SWAPPED
    single = compare_corpora(base, new, ratio, CONFIDENCE)
    monkeypatch.setattr(corpus_tests, "MAX_SWAPPED", 500)
    grouped = compare_corpora(base, new, ratio, CONFIDENCE)
    assert single.p is not None
    assert 0.05 < single.p < 0.9
    assert grouped.p == pytest.approx(single.p, abs=0.08)


def _null_rates(count: int, trials: int, draw: str) -> float:
    """The share of comparisons of equally good runs with p below 0.05."""
    rng = np.random.default_rng(10)
    rejected = 0
    for _ in range(trials):
        sizes = rng.integers(3, 60, count).astype(np.float64)
        shares = rng.beta(2, 3, (2, count)) if draw == "beta" else rng.random((2, count)) ** 6
        base, new = (np.stack([sizes * one, sizes], axis=1) for one in shares)
        found = compare_corpora(base, new, ratio, Confidence(replicates=2))
        assert found.p is not None
        rejected += found.p < 0.05
    return rejected / trials


@pytest.mark.parametrize("draw", ["beta", "skewed"])
def test_the_level_of_p_holds_with_15_rows(draw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 trials: a true rate of 5 % gives 3.1 % to 6.9 % in 95 of 100 cases; the bootstrap rejected 8 %."""
    monkeypatch.setattr(corpus_tests, "RANDOMIZATIONS", 999)
    assert 0.025 <= _null_rates(15, 500, draw) <= 0.072


def test_a_difference_is_found_that_the_data_show() -> None:
    rng = np.random.default_rng(11)
    sizes = rng.integers(5, 50, 40).astype(np.float64)
    share = rng.uniform(0.3, 0.6, 40)
    base = np.stack([sizes * share, sizes], axis=1)
    new = np.stack([sizes * (share + rng.normal(0.1, 0.05, 40)), sizes], axis=1)
    found = compare_corpora(base, new, ratio, CONFIDENCE)
    assert found.p is not None
    assert found.p < 0.001


@pytest.mark.parametrize(
    ("count", "differing", "reach"),
    [(2, 0, 100.0), (50, 0, 6.0), (200, 0, 1.5), (200, 1, 1.5), (200, 4, 1.5)],
)
def test_hardly_a_differing_row_leaves_the_interval_open(
    count: int, differing: int, reach: float
) -> None:
    base = np.stack([np.linspace(4, 5, count), np.full(count, 10.0)], axis=1)
    new = base.copy()
    new[:differing, 0] -= 0.01
    found = compare_corpora(base, new, percent, CONFIDENCE, value_range=PERCENT)
    assert found.value is not None
    assert found.low == pytest.approx(max(-100.0, found.value - reach), rel=1e-6)
    assert found.high == pytest.approx(min(100.0, found.value + reach), rel=1e-6)
    assert "rule of three" in found.method
    assert found.detectable is None


def test_equal_differences_without_a_range_have_no_interval() -> None:
    base = np.stack([np.full(30, 4.0), np.full(30, 10.0)], axis=1)
    for new in (base, base + np.array([1.0, 0.0])):
        found = compare_corpora(base, new, ratio, CONFIDENCE)
        assert (found.low, found.high) == (None, None)
        assert "no range" in found.method
