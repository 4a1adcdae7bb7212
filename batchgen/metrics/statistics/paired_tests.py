"""Two runs on the same rows: by how much a metric differs, and whether that could be chance.

    paired rows ──difference per row──> clustered t interval · exact McNemar, or signs flipped at random

Where hardly a row differs from the others, the data show little about further rows: the interval is at least that of one
row that differs by the whole range of the metric (the rule of three). Without a range there is none if all are equal.
The difference is the new run minus the base run.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.distributions import normal_quantile, sign_test_p, z_test_p
from batchgen.metrics.statistics.intervals import (
    FRACTION,
    TOO_LARGE,
    Confidence,
    Floats,
    PointEstimate,
    ValueRange,
    cluster_mean,
    moments,
    row_mean,
)
from batchgen.metrics.statistics.paired_results import (
    MIN_DIFFERING,
    NO_PAIRS,
    PairedResult,
    at_least_rule_of_three,
)

MAX_SIGN_FLIPPED = 20_000
"""Beyond this many clusters the sum of random signs is treated as normal."""
EXACT_FLIPS = 12
"""Up to this many clusters that differ, every combination of signs, or of swaps, is tried."""
RANDOMIZATIONS = 10_000
"""Random combinations of signs, or of swaps."""
_BLOCK = 1 << 20
_SAME_SHARE = 1e-6
"""Differences that are closer than this share of the range are equal."""


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The scores of two runs for the same observations.

    Attributes:
        base: float64 [n].
        new: float64 [n].
        clusters: integers [n], from 0: observations with the same number are dependent.
        value_range: of a score; None where it has no limits.
    """

    base: Floats
    new: Floats
    clusters: npt.NDArray[np.integer]
    value_range: ValueRange | None = None

    @property
    def binary(self) -> bool:
        """Whether the scores are right or wrong: fractions of which both runs have only zeros and ones."""
        runs = (self.base, self.new)
        return self.value_range == FRACTION and all(
            bool(((scores == 0) | (scores == 1)).all()) for scores in runs
        )


def compare_means(pairs: PairedScores, confidence: Confidence) -> PairedResult:
    """Compare the means of paired scores."""
    level = confidence.level
    if not len(pairs.base):
        return NO_PAIRS
    with np.errstate(over="ignore", invalid="ignore"):
        differences = pairs.new - pairs.base
        clusters = _sum_clusters(differences, pairs.clusters)
    if not np.isfinite(clusters.totals).all():
        return PairedResult(
            None, None, None, None, None, f"none: {TOO_LARGE}", f"none: {TOO_LARGE}"
        )
    bounds, units = pairs.value_range, len(clusters.totals)
    if clusters.sizes is None and pairs.binary:
        found = _matched_rates(differences, level)
        few = bool((differences == differences[0]).all())
    else:
        found = _mean_difference(differences, clusters, level)
        few = bounds is not None and _differing(clusters, bounds) < MIN_DIFFERING
    found = replace(found, pairs=units)
    if found.value is None or units < 2:
        return found
    del differences  # as large as a run
    if found.p is None:
        p, test = _sign_flip(clusters.totals, confidence.seed)
        found = replace(found, p=p, test=test)
    return at_least_rule_of_three(found, bounds, level) if few else found


@dataclass(frozen=True, slots=True)
class _ClusterTotals:
    """Differences summed over clusters.

    Attributes:
        totals: float64 [clusters].
        sizes: int64 [clusters], the number of rows; None if each row is a cluster.
    """

    totals: Floats
    sizes: npt.NDArray[np.int64] | None


def _sum_clusters(differences: Floats, clusters: npt.NDArray[np.integer]) -> _ClusterTotals:
    """Sum over the clusters that have rows, by their number."""
    present = np.zeros(int(clusters.max()) + 1, np.bool_)
    present[clusters] = True
    if present.sum() == len(clusters):
        single = np.zeros(len(present))
        single[clusters] = differences
        return _ClusterTotals(single if present.all() else single[present], None)
    totals = np.asarray(np.bincount(clusters, differences), np.float64)
    sizes = np.asarray(np.bincount(clusters), np.int64)
    return _ClusterTotals(totals[present], sizes[present])


def _mean_difference(differences: Floats, clusters: _ClusterTotals, level: float) -> PairedResult:
    """The mean difference with the interval of its spread, without p."""
    if clusters.sizes is None:
        return _without_p(row_mean(moments(differences), level))
    return _without_p(cluster_mean(np.column_stack([clusters.totals, clusters.sizes]), level))


def _without_p(found: PointEstimate) -> PairedResult:
    method = found.method
    if found.stderr is None and found.value is not None:
        method = method.replace("all values are equal", "all differences are equal")
    return PairedResult(found.value, found.stderr, found.low, found.high, None, method, method)


def _differing(clusters: _ClusterTotals, bounds: ValueRange) -> int:
    """Clusters whose mean difference is not the most frequent one."""
    totals, sizes = clusters.totals, clusters.sizes
    means = np.sort(totals if sizes is None else totals / sizes)
    starts = np.ones(len(means) + 1, np.bool_)
    np.greater(np.diff(means), _SAME_SHARE * bounds.width, out=starts[1:-1])
    del means  # as large as a run
    return len(totals) - int(np.diff(np.flatnonzero(starts)).max())


def _matched_rates(differences: Floats, level: float) -> PairedResult:
    """Two rates over the same rows: exact McNemar, and the interval of Agresti and Min (2005), which stays open at 0."""
    count = len(differences)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    value = (wins - losses) / count
    p, test = sign_test_p(losses, wins + losses), "exact McNemar"
    if count < 2:
        method = "none: one row gives no spread"
        return PairedResult(value, None, None, None, p, test, method)
    padded = count + 2
    middle = (wins - losses) / padded
    spread = math.sqrt(wins + losses + 1 - (wins - losses) ** 2 / padded) / padded
    reach = normal_quantile((1 + level) / 2) * spread
    low, high = max(-1.0, middle - reach), min(1.0, middle + reach)
    return PairedResult(value, spread, low, high, p, test, "Agresti-Min")


def _sign_flip(sums: Floats, seed: int) -> tuple[float, str]:
    """Two-sided p of a sum whose terms would have random signs by chance, and the name of the test."""
    terms = sums[sums != 0]
    if not len(terms):
        return 1.0, "sign flips"
    found = abs(float(terms.sum()))
    if len(terms) > MAX_SIGN_FLIPPED:
        spread = math.sqrt(float((terms**2).sum()))
        return z_test_p(found / spread), "sign flips, normal"
    least = found * (1 - 1e-12)
    if len(terms) <= EXACT_FLIPS:
        numbers = np.arange(1 << len(terms))
        bits = (numbers[:, None] >> np.arange(len(terms))) & 1
        flipped = np.abs((1 - 2 * bits) @ terms)
        return float((flipped >= least).mean()), "sign flips, exact"
    generator = np.random.default_rng(seed)
    together = max(1, _BLOCK // len(terms))
    extreme = 0
    for first in range(0, RANDOMIZATIONS, together):
        count = min(together, RANDOMIZATIONS - first)
        bits = generator.integers(0, 2, size=(count, len(terms)), dtype=np.int8)
        extreme += int((np.abs((1 - 2 * bits).astype(np.float64) @ terms) >= least).sum())
    return (extreme + 1) / (RANDOMIZATIONS + 1), "sign flips"
