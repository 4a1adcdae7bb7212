"""Estimates with standard error and confidence interval, from sums that can be added part by part.

    row_mean       independent rows        Wilson for rates, Student's t for other means
    cluster_mean   samples of one prompt   Student's t over clusters
    bootstrap      corpus metrics          percentiles over resampled clusters

Observations without any spread show nothing about the spread of further ones. Their interval is that of one observation
that differs by the whole range of the metric (the rule of three); a metric without a range has none. With fewer than two
independent observations the standard error is None, never 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.distributions import normal_quantile, t_quantile
from batchgen.metrics.statistics.resampling import resample

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Finalize = Callable[[Floats], Floats]
"""Sums of row statistics, float64 [..., k], to values of a corpus metric, float64 [...]."""

_ROUNDING = 1e-9
"""A standard error of at most this share of the value is rounding."""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Level of the intervals; replicates and seed of the bootstrap."""

    level: float = 0.95
    replicates: int = 1000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The smallest and the largest value that a metric can have."""

    least: float
    most: float

    @property
    def width(self) -> float:
        """The largest difference of two values."""
        return self.most - self.least


FRACTION = ValueRange(0.0, 1.0)


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


EQUAL_VALUES = "all values are equal, and the metric has no range"
TOO_LARGE = "the values are too large for a mean and its error"


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and spread of values, which can be added part by part without loss of precision.

    Values too large for float64 arithmetic give a mean or squares that are not finite.

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
        between = apart * apart * (self.count / count) * other.count if apart else 0.0
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + between,
            self.binary and other.binary,
        )


def moments(values: Floats) -> Moments:
    """Count, mean and spread of values, float64 [n]."""
    if not len(values):
        return Moments()
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
        distances = values - mean
        squares = float(np.square(distances, out=distances).sum())
    binary = bool(((values == 0) | (values == 1)).all())
    return Moments(len(values), mean, squares, binary)


def rule_of_three(count: int, level: float) -> float:
    """The largest share of a kind that `count` observations without one of that kind leave possible.

    3 / count at 95 % (Hanley and Lippman-Hand 1983), and as much at other levels: -ln(1 - level) / count.
    """
    return 3 / count * math.log(1 - level) / math.log(0.05)


def is_rounding(stderr: float, value: float) -> bool:
    """Whether a standard error is that of equal observations."""
    return stderr <= _ROUNDING * abs(value)


def row_mean(found: Moments, level: float, bounds: ValueRange | None = None) -> PointEstimate:
    """The mean of independent rows, with an interval of this level. `bounds`: of the values."""
    if not found.count:
        return NO_DATA
    if found.count < 2 or not math.isfinite(found.mean):
        return _without_error(found.mean, "one row gives no spread")
    stderr = math.sqrt(found.squares / (found.count - 1) / found.count)
    mean = _Mean(found.mean, stderr, found.count, bounds)
    if bounds == FRACTION and (found.binary or mean.constant):
        return mean.wilson(level, "wilson")
    return mean.student(level, "t")


def cluster_mean(sums: Floats, level: float, bounds: ValueRange | None = None) -> PointEstimate:
    """The mean of rows in clusters, from the sum and the number of each cluster's values: float64 [clusters, 2].

    The variance is that of Miller (2024, arXiv 2411.00640, appendix A) with the factor C / (C - 1) for a finite
    number of clusters. Where no cluster differs from any other it would be 0; a fraction then gets Wilson's interval
    over clusters, which is right for a rate and cautious for any other value between 0 and 1.
    """
    totals, counts = sums[:, 0], sums[:, 1]
    rows = float(counts.sum())
    if not rows:
        return NO_DATA
    clusters = int(np.count_nonzero(counts))
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(totals.sum()) / rows
        squares = float(((totals - counts * value) ** 2).sum())
    if clusters < 2 or not math.isfinite(value):
        return _without_error(value, "one cluster gives no spread")
    stderr = math.sqrt(clusters / (clusters - 1) * squares) / rows
    mean = _Mean(value, stderr, clusters, bounds)
    if bounds == FRACTION and mean.constant:
        return mean.wilson(level, "wilson over clusters")
    return mean.student(level, "t, clustered")


def _without_error(mean: float, reason: str) -> PointEstimate:
    return point_estimate(mean, reason) if math.isfinite(mean) else no_estimate(TOO_LARGE)


@dataclass(frozen=True, slots=True)
class _Mean:
    """The mean of independent observations, `count` of them."""

    value: float
    stderr: float
    count: int
    bounds: ValueRange | None

    @property
    def constant(self) -> bool:
        return is_rounding(self.stderr, self.value)

    def wilson(self, level: float, method: str) -> PointEstimate:
        low, high = wilson(min(1.0, self.value), self.count, level)
        return PointEstimate(self.value, self.stderr, low, high, method)

    def student(self, level: float, method: str) -> PointEstimate:
        if self.constant:
            return without_spread(self.value, self.count, level, self.bounds)
        reach = t_quantile((1 + level) / 2, self.count - 1) * self.stderr
        low, high = self.value - reach, self.value + reach
        if not math.isfinite(high - low):
            return point_estimate(self.value, TOO_LARGE)
        estimate = PointEstimate(self.value, self.stderr, low, high, method)
        return estimate.clipped(self.bounds.least, self.bounds.most) if self.bounds else estimate


def without_spread(
    value: float, count: int, level: float, bounds: ValueRange | None
) -> PointEstimate:
    """A value over `count` equal independent observations: its interval is that of the rule of three."""
    if bounds is None:
        return point_estimate(value, EQUAL_VALUES)
    reach = bounds.width * rule_of_three(count, level)
    estimate = PointEstimate(value, 0.0, value - reach, value + reach, "rule of three")
    return estimate.clipped(bounds.least, bounds.most)


def wilson(rate: float, count: int, level: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate over `count` rows."""
    z = normal_quantile((1 + level) / 2)
    spread = z * z / count
    middle = (rate + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(rate * (1 - rate) / count + spread / (4 * count))
    # At 0 and 1 an end is exact; rounding would miss it.
    return (0.0 if rate == 0 else middle - reach), (1.0 if rate == 1 else middle + reach)


def bootstrap(
    sums: Floats,
    finalize: Finalize,
    confidence: Confidence,
    bounds: ValueRange | None = None,
) -> PointEstimate:
    """The value of a corpus metric, with an interval from resampled clusters (Efron and Tibshirani 1993, chapter 13).

    `sums` are row statistics summed over each cluster, float64 [clusters, k]. Without replicates there is no interval.
    The same seed gives the same replicates for every metric. The standard error is the standard deviation over
    replicates, not that of their mean.
    """
    value = float(finalize(sums.sum(axis=0))) if len(sums) else math.nan
    if not math.isfinite(value):
        return NO_DATA
    level, replicates = confidence.level, confidence.replicates
    if len(sums) < 2 or replicates < 2:
        reason = "the bootstrap is off" if replicates < 2 else "one cluster gives no spread"
        return point_estimate(value, reason)
    drawn = finalize(resample(sums, replicates=replicates, seed=confidence.seed))
    return from_replicates(value, drawn, len(sums), level=level, bounds=bounds)


def from_replicates(
    value: float, drawn: Floats, count: int, *, level: float, bounds: ValueRange | None
) -> PointEstimate:
    """A value with the percentile interval of its bootstrap replicates, float64 [replicates], over `count` clusters."""
    finite = drawn[np.isfinite(drawn)]
    with np.errstate(over="ignore", invalid="ignore"):
        stderr = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    if len(finite) < len(drawn) * 0.99 or not math.isfinite(stderr):
        return point_estimate(value, "too few rows to resample")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    # Few replicates may differ where nearly all have one value: those without any row of a rare class.
    if is_rounding(stderr, value) or is_rounding(float(high - low), value):
        return without_spread(value, count, level, bounds)
    estimate = PointEstimate(value, stderr, float(low), float(high), "bootstrap")
    return estimate.clipped(bounds.least, bounds.most) if bounds else estimate
