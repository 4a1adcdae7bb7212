"""Estimates with standard error and confidence interval, from sums that can be added part by part.

    row_mean       independent rows        Wilson for rates, Student's t for other means
    cluster_mean   samples of one prompt   Student's t over clusters
    bootstrap      corpus metrics          percentiles over resampled clusters

With fewer than two independent observations the standard error is None, never 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.distributions import normal_quantile, t_quantile

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Finalize = Callable[[Floats], Floats]
"""Sums of row statistics, float64 [..., k], to values of a corpus metric, float64 [...]."""

_BLOCK_BYTES = 1 << 20
"""Memory for the weights of the replicates that are drawn together: small enough for the processor's cache."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Level of the intervals; replicates and seed of the bootstrap."""

    level: float = 0.95
    replicates: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PointEstimate:
    """A value with its standard error and confidence interval.

    Attributes:
        value: None where there is nothing to measure.
        low: lower end of the interval; None where there is none.
        method: how the interval was computed, or why there is none.
    """

    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    method: str

    def clipped(self, least: float, most: float) -> "PointEstimate":
        """The same with the interval cut to the possible values."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(least, self.low), high=min(most, self.high))


def no_estimate(reason: str) -> PointEstimate:
    """Neither a value nor an interval, and the reason."""
    return PointEstimate(None, None, None, None, f"none: {reason}")


NO_DATA = no_estimate("nothing was scored")


def point_estimate(value: float, reason: str) -> PointEstimate:
    """A value without error and interval, and the reason."""
    return PointEstimate(value, None, None, None, f"none: {reason}")


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and spread of values, which can be added part by part without loss of precision.

    Attributes:
        squares: sum of the squared distances from the mean.
        binary: whether every value is 0 or 1.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    binary: bool = True

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both together (Chan, Golub and LeVeque 1983)."""
        count = self.count + other.count
        if not other.count or not self.count:
            return self if self.count else other
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * other.count / count,
            self.squares + other.squares + apart * apart * self.count * other.count / count,
            self.binary and other.binary,
        )


def moments(values: Floats) -> Moments:
    """Count, mean and spread of values, float64 [n]."""
    if not len(values):
        return Moments()
    mean = float(values.mean())
    binary = bool(((values == 0) | (values == 1)).all())
    return Moments(len(values), mean, float(((values - mean) ** 2).sum()), binary)


def row_mean(found: Moments, level: float, *, fraction: bool) -> PointEstimate:
    """The mean of independent rows, with an interval of this level. `fraction`: the values are between 0 and 1."""
    if not found.count:
        return NO_DATA
    if found.count < 2:
        return point_estimate(found.mean, "one row gives no spread")
    stderr = math.sqrt(found.squares / (found.count - 1) / found.count)
    if fraction and (found.binary or not stderr):
        low, high = wilson(found.mean, found.count, level)
        return PointEstimate(found.mean, stderr, low, high, "wilson")
    return _student(found.mean, stderr, found.count - 1, level=level, fraction=fraction, method="t")


def cluster_mean(sums: Floats, level: float, *, fraction: bool) -> PointEstimate:
    """The mean of rows in clusters, from the sum and the number of each cluster's values: float64 [clusters, 2].

    The variance is that of Miller (2024, arXiv 2411.00640, appendix A) with the factor C / (C - 1) for a finite
    number of clusters. Where no cluster differs from any other it would be 0; a fraction then gets Wilson's interval
    over clusters, which is right for a rate and cautious for any other value between 0 and 1.
    """
    totals, counts = sums[:, 0], sums[:, 1]
    rows = float(counts.sum())
    if not rows:
        return NO_DATA
    mean = float(totals.sum()) / rows
    clusters = int(np.count_nonzero(counts))
    if clusters < 2:
        return point_estimate(mean, "one cluster gives no spread")
    factor = clusters / (clusters - 1)
    stderr = math.sqrt(factor * float(((totals - counts * mean) ** 2).sum())) / rows
    if fraction and not stderr:
        low, high = wilson(mean, clusters, level)
        return PointEstimate(mean, stderr, low, high, "wilson over clusters")
    return _student(
        mean, stderr, clusters - 1, level=level, fraction=fraction, method="t, clustered"
    )


def _student(
    mean: float, stderr: float, df: int, *, level: float, fraction: bool, method: str
) -> PointEstimate:
    reach = t_quantile((1 + level) / 2, df) * stderr
    estimate = PointEstimate(mean, stderr, mean - reach, mean + reach, method)
    return estimate.clipped(0.0, 1.0) if fraction else estimate


def wilson(rate: float, count: int, level: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate over `count` rows."""
    z = normal_quantile((1 + level) / 2)
    spread = z * z / count
    middle = (rate + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(rate * (1 - rate) / count + spread / (4 * count))
    # At 0 and 1 an end is exact; rounding would miss it.
    return (0.0 if rate == 0 else middle - reach), (1.0 if rate == 1 else middle + reach)


def bootstrap(
    sums: Floats, finalize: Finalize, level: float, *, replicates: int, seed: int
) -> PointEstimate:
    """The value of a corpus metric, with an interval from resampled clusters (Efron and Tibshirani 1993, chapter 13).

    `sums` are row statistics summed over each cluster, float64 [clusters, k]. Without replicates there is no interval.
    The same seed gives the same replicates for every metric. The standard error is the standard deviation over
    replicates, not that of their mean.
    """
    value = float(finalize(sums.sum(axis=0))) if len(sums) else math.nan
    if not math.isfinite(value):
        return NO_DATA
    if len(sums) < 2 or not replicates:
        reason = "one cluster gives no spread" if replicates else "the bootstrap is off"
        return point_estimate(value, reason)
    drawn = finalize(resample(sums, replicates=replicates, seed=seed))
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < replicates * 0.99:
        return point_estimate(value, "too few rows to resample")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return PointEstimate(value, float(finite.std(ddof=1)), float(low), float(high), "bootstrap")


def resample(sums: Floats, *, replicates: int, seed: int) -> Floats:
    """The total of each replicate: float64 [replicates, k].

    A replicate draws as many clusters as there are, with replacement: its weights are multinomial. Which ones are
    drawn depends on the seed and the number of clusters alone, so that two runs can be resampled alike.
    """
    clusters = len(sums)
    generator = np.random.default_rng(seed)
    together = max(1, _BLOCK_BYTES // (16 * clusters))
    blocks = []
    for first in range(0, replicates, together):
        count = min(together, replicates - first)
        drawn = generator.integers(0, clusters, size=(count, clusters))
        drawn += np.arange(count)[:, None] * clusters
        weights = np.bincount(drawn.ravel(), minlength=count * clusters)
        blocks.append(weights.reshape(count, clusters).astype(np.float64) @ sums)
    return np.concatenate(blocks)
