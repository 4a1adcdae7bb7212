"""Intervals against scipy, errors against simulation, and what must be None."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from batchgen.metrics.statistics.intervals import (
    NO_DATA,
    Floats,
    Moments,
    bootstrap,
    cluster_mean,
    moments,
    resample,
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
    found = row_mean(moments(values), level, fraction=True)
    exact = scipy.stats.binomtest(wins, count).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.method == "wilson"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [2, 3, 30, 1_000])
def test_other_means_have_the_student_interval(count: int, level: float) -> None:
    values = np.random.default_rng(count).gamma(2.0, 50.0, count)
    found = row_mean(moments(values), level, fraction=False)
    stderr = scipy.stats.sem(values)
    low, high = scipy.stats.t.interval(level, count - 1, values.mean(), stderr)
    assert found.stderr == pytest.approx(stderr)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.method == "t"


def test_clusters_of_one_row_equal_rows() -> None:
    values = np.random.default_rng(1).normal(size=50)
    rows = row_mean(moments(values), 0.95, fraction=False)
    clusters = cluster_mean(ones(values), 0.95, fraction=False)
    assert clusters.stderr == pytest.approx(rows.stderr)
    assert (clusters.low, clusters.high) == pytest.approx((rows.low, rows.high))


def test_clusters_of_equal_size_equal_means_of_prompts() -> None:
    scores = np.random.default_rng(2).normal(size=(40, 4))
    sums = np.stack([scores.sum(axis=1), np.full(40, 4.0)], axis=1)
    found = cluster_mean(sums, 0.95, fraction=False)
    assert found.stderr == pytest.approx(scipy.stats.sem(scores.mean(axis=1)))


@pytest.mark.parametrize("estimate", [row_mean(Moments(), 0.95, fraction=True), NO_DATA])
def test_nothing_scored_has_no_value(estimate: object) -> None:
    assert estimate == NO_DATA


def test_one_observation_has_no_error() -> None:
    one = np.array([0.5])
    for found in (
        row_mean(moments(one), 0.95, fraction=True),
        cluster_mean(np.array([[2.0, 4.0]]), 0.95, fraction=True),
        bootstrap(np.array([[2.0, 4.0]]), ratio, 0.95, replicates=100, seed=0),
    ):
        assert found.value == 0.5
        assert found.stderr is found.low is found.high is None
        assert found.method.startswith("none: one")


def test_identical_clusters_do_not_give_certainty() -> None:
    sums = np.full((20, 2), 4.0)
    found = cluster_mean(sums, 0.95, fraction=True)
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
    found = [cluster_mean(_clustered(rng), 0.95, fraction=False) for _ in range(4_000)]
    values = np.array([f.value for f in found])
    errors = np.array([f.stderr for f in found])
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.05)
    covered = [f.low < 0 < f.high for f in found if f.low is not None and f.high is not None]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_bootstrap_errors_match_a_simulation() -> None:
    rng = np.random.default_rng(4)
    found = [bootstrap(_clustered(rng), ratio, 0.95, replicates=200, seed=n) for n in range(1_000)]
    values = np.array([f.value for f in found])
    errors = np.array([f.stderr for f in found])
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.08)


def test_the_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(5).gamma(2.0, size=200)
    ours = bootstrap(ones(values), ratio, 0.95, replicates=4_000, seed=0)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4_000, method="percentile", rng=0
    )
    assert ours.stderr == pytest.approx(theirs.standard_error, rel=0.05)
    expected = (theirs.confidence_interval.low, theirs.confidence_interval.high)
    assert (ours.low, ours.high) == pytest.approx(expected, rel=0.01)


def test_every_replicate_draws_as_many_clusters_as_there_are() -> None:
    drawn = resample(ones(np.arange(300.0)), replicates=50, seed=1)
    assert (drawn[:, 1] == 300).all()
    assert len(np.unique(drawn[:, 0])) > 40


def test_the_same_seed_resamples_two_runs_alike() -> None:
    sums = np.random.default_rng(6).random((500, 2))
    one, other = (resample(sums * factor, replicates=20, seed=9) for factor in (1.0, 2.0))
    assert np.allclose(other, 2 * one)


def test_a_bootstrap_with_failing_replicates_has_a_reason() -> None:
    sums = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    found = bootstrap(sums, ratio, 0.95, replicates=100, seed=0)
    assert (found.value, found.low) == (1.0, None)
    assert found.method == "none: too few rows to resample"
