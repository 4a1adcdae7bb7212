"""Intervals against scipy, errors against simulation, and what must be None."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from batchgen.metrics.statistics.intervals import (
    FRACTION,
    NO_DATA,
    TOO_LARGE,
    Confidence,
    Floats,
    Moments,
    ValueRange,
    bootstrap,
    cluster_mean,
    moments,
    row_mean,
    wilson,
)

LEVELS = (0.8, 0.95, 0.99)


def ratio(sums: Floats) -> Floats:
    """The mean in the form of a corpus metric."""
    with np.errstate(invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def ones(values: Floats) -> Floats:
    """Each value is a separate cluster."""
    return np.stack([values, np.ones_like(values)], axis=1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("wins", "count"), [(0, 2), (1, 7), (5, 10), (499, 500), (500, 500)])
def test_rates_have_the_wilson_interval(wins: int, count: int, level: float) -> None:
    values = np.array([1.0] * wins + [0.0] * (count - wins))
    found = row_mean(moments(values), level, FRACTION)
    exact = scipy.stats.binomtest(wins, count).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.method == "wilson"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [2, 3, 30, 1_000])
def test_other_means_have_the_student_interval(count: int, level: float) -> None:
    values = np.random.default_rng(count).gamma(2.0, 50.0, count)
    found = row_mean(moments(values), level)
    stderr = scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(level, count - 1, values.mean(), stderr)
    assert found.stderr == pytest.approx(stderr)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.method == "t"


def test_clusters_of_one_row_equal_rows() -> None:
    values = np.random.default_rng(1).normal(size=50)
    rows = row_mean(moments(values), 0.95)
    clusters = cluster_mean(ones(values), 0.95)
    assert clusters.stderr == pytest.approx(rows.stderr)
    assert (clusters.low, clusters.high) == pytest.approx((rows.low, rows.high))


def test_clusters_of_equal_size_equal_means_of_prompts() -> None:
    scores = np.random.default_rng(2).normal(size=(40, 4))
    sums = np.stack([scores.sum(axis=1), np.full(40, 4.0)], axis=1)
    found = cluster_mean(sums, 0.95)
    assert found.stderr == pytest.approx(scipy.stats.sem(scores.mean(axis=1)))


@pytest.mark.parametrize("estimate", [row_mean(Moments(), 0.95, FRACTION), NO_DATA])
def test_nothing_scored_has_no_value(estimate: object) -> None:
    assert estimate == NO_DATA


def test_one_observation_has_no_error() -> None:
    one = np.array([0.5])
    for found in (
        row_mean(moments(one), 0.95, FRACTION),
        cluster_mean(np.array([[2.0, 4.0]]), 0.95, FRACTION),
        bootstrap(np.array([[2.0, 4.0]]), ratio, Confidence(replicates=100, seed=0)),
    ):
        assert found.value == 0.5
        assert found.stderr is found.low is found.high is None
        assert found.method.startswith("none: one")


def test_identical_clusters_do_not_give_certainty() -> None:
    sums = np.full((20, 2), 4.0)
    found = cluster_mean(sums, 0.95, FRACTION)
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 20, 0.95))
    assert found.low is not None
    assert found.low < 0.9


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 0.5, 3e8, 3e8 + 1]), max_size=5), min_size=1, max_size=6
    )
)
def test_moments_do_not_depend_on_the_parts(parts: list[list[float]]) -> None:
    added = sum((moments(np.array(part, np.float64)) for part in parts), Moments())
    whole = moments(np.array([v for part in parts for v in part], np.float64))
    assert (added.count, added.binary) == (whole.count, whole.binary)
    assert added.mean == pytest.approx(whole.mean)
    assert added.squares == pytest.approx(whole.squares, rel=1e-6, abs=1e-6)


Draw = Callable[[np.random.Generator], Floats]


def _clustered(rng: np.random.Generator) -> Floats:
    """Sums of 30 prompts with 1 to 6 dependent answers each."""
    counts = rng.integers(1, 7, 30).astype(np.float64)
    level = rng.normal(size=30)
    return np.stack([counts * level + rng.normal(size=30) * np.sqrt(counts), counts], axis=1)


def test_clustered_errors_match_a_simulation() -> None:
    rng = np.random.default_rng(3)
    found = [cluster_mean(_clustered(rng), 0.95) for _ in range(4_000)]
    values = np.array([f.value for f in found])
    errors = np.array([f.stderr for f in found])
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.05)
    covered = [f.low < 0 < f.high for f in found if f.low is not None and f.high is not None]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_bootstrap_errors_match_a_simulation() -> None:
    rng = np.random.default_rng(4)
    found = [
        bootstrap(_clustered(rng), ratio, Confidence(replicates=200, seed=n)) for n in range(1_000)
    ]
    values = np.array([f.value for f in found])
    errors = np.array([f.stderr for f in found])
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.08)


def test_the_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=200)
    ours = bootstrap(ones(values), ratio, Confidence(replicates=4_000, seed=0))
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4_000, method="percentile", rng=0
    )
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=0.05)
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert (ours.low, ours.high) == pytest.approx(expected, rel=0.01)


def test_a_bootstrap_with_failing_replicates_has_a_reason() -> None:
    sums = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = bootstrap(sums, ratio, Confidence(replicates=100, seed=0))
    assert (found.value, found.low) == (1.0, None)
    assert found.method == "none: too few rows to resample"


@pytest.mark.parametrize("bounds", [ValueRange(0.0, 100.0), None])
@pytest.mark.parametrize("value", [100.0, 0.0, 0.1, 40.0])
def test_equal_values_do_not_give_certainty(value: float, bounds: ValueRange | None) -> None:
    rows = np.full(50, value)
    sums = np.stack([2 * rows, np.full(50, 2.0)], axis=1)
    for found in (
        row_mean(moments(rows), 0.95, bounds),
        cluster_mean(sums, 0.95, bounds),
        bootstrap(sums, ratio, Confidence(), bounds),
    ):
        assert found.value == pytest.approx(value)
        if bounds is None:
            assert (found.low, found.high) == (None, None)
            assert "no range" in found.method
        else:
            assert found.low == pytest.approx(max(0.0, value - 6.0))
            assert found.high == pytest.approx(min(100.0, value + 6.0))
            assert found.method == "rule of three"


LARGE = [
    pytest.param([1e308] * 3, id="a sum beyond float64"),
    pytest.param([1e308, -1e308], id="squares beyond float64"),
    pytest.param([1e200, 0.0, 3.0], id="squares of large values"),
    pytest.param([1e154, -1e154, 1.0], id="just representable"),
]


@pytest.mark.parametrize("values", LARGE)
def test_no_estimate_is_infinite_or_not_a_number(values: list[float]) -> None:
    several = np.array(values)
    parts = sum((moments(several[at : at + 1]) for at in range(len(several))), Moments())
    for found in (
        row_mean(moments(several), 0.95),
        row_mean(parts, 0.95),
        cluster_mean(ones(several), 0.95),
    ):
        numbers = [found.value, found.stderr, found.low, found.high]
        assert all(one is None or np.isfinite(one) for one in numbers)
        assert found.low is not None or TOO_LARGE in found.method or "no range" in found.method
