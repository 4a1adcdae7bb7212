"""Agreement equals that of scikit-learn and of the package krippendorff; intervals cover what they should."""

from typing import Any

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from batchgen.metrics.statistics.agreement import (
    KappaWeights,
    Level,
    RatedUnits,
    cohen_kappa,
    krippendorff_alpha,
)
from batchgen.metrics.statistics.intervals import Confidence

CONFIDENCE = Confidence()
NONE = Confidence(replicates=0)
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")


def ratings(seed: int, *, raters: int, units: int, missing: float, kind: str) -> Any:
    """Float64 [raters, units] with NaN for missing values, which agree better than chance."""
    generator = np.random.default_rng(seed)
    true = generator.normal(size=units)
    noisy = true + generator.normal(scale=0.8, size=(raters, units))
    values = {
        "scale": np.clip(np.round(noisy + 3), 1, 5),
        "binary": (noisy > 0).astype(float),
        "any": noisy,
    }[kind]
    return np.where(generator.random((raters, units)) < missing, np.nan, values)


def rated(table: Any, clusters: Any = None) -> RatedUnits:
    places = [(rater, unit) for rater, unit in np.argwhere(~np.isnan(table)).tolist()]
    groups = np.arange(table.shape[1]) if clusters is None else clusters
    return RatedUnits.of([(unit, table[rater, unit], groups[unit]) for rater, unit in places])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["scale", "binary", "any"])
@pytest.mark.parametrize(("raters", "units", "missing"), [(2, 40, 0.0), (3, 25, 0.3), (6, 60, 0.6)])
def test_alpha_equals_that_of_krippendorff(
    level: Level, kind: str, raters: int, units: int, missing: float
) -> None:
    for seed in range(3):
        table = ratings(seed, raters=raters, units=units, missing=missing, kind=kind)
        expected = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
        found = krippendorff_alpha(rated(table), level, NONE)
        assert found.value == pytest.approx(expected, abs=1e-10)
        assert found.low is None


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("kind", ["scale", "binary"])
def test_kappa_equals_that_of_scikit_learn(weights: KappaWeights, kind: str) -> None:
    for seed in range(5):
        first, second = ratings(seed, raters=2, units=50, missing=0, kind=kind)
        name = None if weights == "none" else weights
        expected = cohen_kappa_score(first, second, weights=name)
        found = cohen_kappa(first, second, np.arange(50), weights=weights, confidence=NONE)
        assert found.value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_an_interval_of_alpha_is_that_of_resampled_clusters(level: Level) -> None:
    """The oracle repeats the columns of the drawn clusters, and calls the package for each replicate."""
    table = ratings(1, raters=3, units=30, missing=0.2, kind="scale")
    clusters = np.arange(30) // 2
    found = krippendorff_alpha(rated(table, clusters), level, Confidence(replicates=400))
    generator = np.random.default_rng(7)
    drawn = []
    for _ in range(400):
        chosen = generator.integers(0, 15, size=15)
        columns = np.concatenate([np.flatnonzero(clusters == one) for one in chosen])
        drawn.append(
            krippendorff.alpha(reliability_data=table[:, columns], level_of_measurement=level)
        )
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.06)
    assert found.high == pytest.approx(high, abs=0.06)
    assert found.stderr == pytest.approx(np.std(drawn, ddof=1), rel=0.2)


def test_the_interval_of_kappa_contains_it_and_widens_with_clusters() -> None:
    first, second = ratings(3, raters=2, units=80, missing=0, kind="scale")
    alone = cohen_kappa(first, second, np.arange(80), confidence=CONFIDENCE)
    repeated = cohen_kappa(
        np.tile(first, 3), np.tile(second, 3), np.tile(np.arange(80), 3), confidence=CONFIDENCE
    )
    assert alone.low is not None
    assert alone.value is not None
    assert alone.high is not None
    assert alone.low < alone.value < alone.high
    assert repeated.value == pytest.approx(alone.value)
    assert repeated.stderr == pytest.approx(alone.stderr, rel=0.01)


def test_perfect_agreement_has_the_interval_of_the_rule_of_three() -> None:
    table = np.tile(np.array([1.0, 2, 3, 4, 5] * 6), (2, 1))
    found = krippendorff_alpha(rated(table), "ordinal", CONFIDENCE)
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(1 - 2 * 3 / 30, abs=0.01)
    assert found.method == "rule of three"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (np.full((2, 5), 3.0), "all values are equal"),
        (np.array([[1.0, np.nan], [np.nan, 2.0]]), "no unit has two values"),
        (np.empty((2, 0)), "no unit has two values"),
    ],
)
def test_without_spread_or_units_there_is_no_alpha_and_a_reason(
    level: Level, table: Any, reason: str
) -> None:
    found = krippendorff_alpha(rated(table), level, CONFIDENCE)
    assert found.value is None
    assert reason in found.method


def test_without_spread_or_units_there_is_no_kappa_and_a_reason() -> None:
    same, none = np.ones(4), np.empty(0)
    equal = cohen_kappa(same, same, np.arange(4), confidence=CONFIDENCE)
    assert (equal.value, equal.method) == (None, "none: all values are equal")
    empty = cohen_kappa(none, none, np.empty(0, np.int64), confidence=CONFIDENCE)
    assert empty.value is None


def test_one_cluster_gives_a_value_without_an_interval() -> None:
    table = ratings(1, raters=2, units=10, missing=0, kind="scale")
    found = krippendorff_alpha(rated(table, np.zeros(10, int)), "interval", CONFIDENCE)
    assert found.value is not None
    assert (found.low, found.method) == (None, "none: one cluster gives no spread")
