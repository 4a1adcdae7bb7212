"""How far raters agree beyond chance: Cohen's kappa for two, Krippendorff's alpha for any number, with intervals.

    kappa   1 - observed / expected disagreement; expected from how often each of the two gives each value
    alpha   the same; expected from how often all raters together give each value, and values may be missing

Intervals are percentiles of a bootstrap that draws clusters of units, such as the answers of one prompt. Where all values
are equal, chance alone would agree as well, and there is neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.intervals import (
    Confidence,
    Floats,
    Integers,
    PointEstimate,
    ValueRange,
    bootstrap,
    from_replicates,
    no_estimate,
    point_estimate,
)
from batchgen.metrics.statistics.resampling import draw_weights

Level = Literal["nominal", "ordinal", "interval"]
"""How far two values are apart: equal or not, by ranks, or by their difference. The last two square it."""
KappaWeights = Literal["none", "linear", "quadratic"]

AGREEMENT = ValueRange(-1.0, 1.0)
NO_SPREAD = "all values are equal"
NO_UNITS = "no unit has two values"


@dataclass(frozen=True, slots=True)
class RatedUnits:
    """Values that raters gave to units, in any order.

    Attributes:
        units: int64 [n]: the unit of each value.
        values: float64 [n].
        clusters: int64 [n]: the cluster of each value's unit.
    """

    units: Integers
    values: Floats
    clusters: Integers

    @staticmethod
    def of(rated: Sequence[tuple[int, float, int]]) -> "RatedUnits":
        """From (unit, value, cluster) of each value."""
        columns = list(zip(*rated, strict=True)) or [(), (), ()]
        units, values, clusters = columns
        return RatedUnits(
            np.array(units, np.int64), np.array(values, np.float64), np.array(clusters, np.int64)
        )

    def pairable(self) -> "RatedUnits":
        """Those of units with two values at least, by unit; units and clusters are numbered from 0."""
        _, codes, counts = np.unique(self.units, return_inverse=True, return_counts=True)
        chosen = np.flatnonzero(counts[codes] > 1)
        chosen = chosen[np.argsort(codes[chosen], kind="stable")]
        _, units = np.unique(codes[chosen], return_inverse=True)
        _, clusters = np.unique(self.clusters[chosen], return_inverse=True)
        return RatedUnits(units.astype(np.int64), self.values[chosen], clusters.astype(np.int64))


def krippendorff_alpha(rated: RatedUnits, level: Level, confidence: Confidence) -> PointEstimate:
    """Krippendorff's alpha (2011, "Computing Krippendorff's Alpha-Reliability") with its interval."""
    found = rated.pairable()
    if not len(found.values):
        return no_estimate(NO_UNITS)
    alpha = _Alpha(found, level)
    value = float(alpha.of(np.ones((1, alpha.clusters)))[0])
    if not np.isfinite(value):
        return no_estimate(NO_SPREAD)
    if alpha.clusters < 2 or confidence.replicates < 2:
        off = "the bootstrap is off" if confidence.replicates < 2 else "one cluster gives no spread"
        return point_estimate(value, off)
    drawn = [
        alpha.of(weights.astype(np.float64))
        for weights in draw_weights(
            alpha.clusters, replicates=confidence.replicates, seed=confidence.seed
        )
    ]
    return from_replicates(
        value, np.concatenate(drawn), alpha.clusters, level=confidence.level, bounds=AGREEMENT
    )


class _Alpha:
    """Alpha of weighted clusters. In a unit with m values each pair of them counts 1 / (m - 1)."""

    def __init__(self, found: RatedUnits, level: Level) -> None:
        self.clusters = int(found.clusters.max()) + 1
        self._level = level
        self._domain, self._codes = np.unique(found.values, return_inverse=True)
        self._starts = np.flatnonzero(np.diff(found.units, prepend=-1))
        self._sizes = np.diff(self._starts, append=len(found.units)).astype(np.float64)
        self._of_units = found.clusters[self._starts]
        counts = np.zeros((self.clusters, len(self._domain)))
        np.add.at(counts, (found.clusters, self._codes), 1.0)
        self._counts = counts
        if level == "nominal":
            table = np.zeros((len(self._starts), len(self._domain)))
            np.add.at(table, (found.units, self._codes), 1.0)
            self._apart = (self._sizes**2 - (table**2).sum(axis=1)) / (self._sizes - 1)

    def of(self, weights: Floats) -> Floats:
        """Float64 [replicates, clusters] to float64 [replicates]; not a number where all values are equal."""
        counts = weights @ self._counts
        total = counts.sum(axis=1)
        if self._level == "nominal":
            observed = weights[:, self._of_units] @ self._apart
            expected = total**2 - (counts**2).sum(axis=1)
        else:
            places = self._places(counts)
            observed = self._observed(weights, places)
            sums = (counts * places).sum(axis=1)
            expected = 2 * (total * (counts * places**2).sum(axis=1) - sums**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(expected > 1e-12 * np.maximum(1.0, total**2), expected, np.nan)
            return np.asarray(1 - (total - 1) * observed / spread)

    def _places(self, counts: Floats) -> Floats:
        """Where each value is: its middle rank among all values, or itself. Float64 [replicates, values].

        Krippendorff's ordinal metric, the sum of the counts from one value to the other less half of both ends, is the
        difference of middle ranks.
        """
        if self._level == "ordinal":
            return np.asarray(np.cumsum(counts, axis=1) - counts / 2)
        return np.broadcast_to(self._domain - self._domain.mean(), counts.shape)

    def _observed(self, weights: Floats, places: Floats) -> Floats:
        at = places[:, self._codes]
        squares = np.add.reduceat(at**2, self._starts, axis=1)
        sums = np.add.reduceat(at, self._starts, axis=1)
        apart = 2 * (self._sizes * squares - sums**2) / (self._sizes - 1)
        return np.asarray((weights[:, self._of_units] * apart).sum(axis=1))


def cohen_kappa(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    clusters: Integers,
    *,
    weights: KappaWeights = "none",
    confidence: Confidence,
) -> PointEstimate:
    """Cohen's kappa (1960) of two raters who rated the same units, with its interval; all arrays are [units].

    With weights (Cohen 1968), a disagreement counts as far as the values are apart in the order of all that occur.
    """
    if not len(first):
        return no_estimate("no unit has a value of both")
    domain, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    size = len(domain)
    if size < 2:
        return no_estimate(NO_SPREAD)
    _, of_units = np.unique(clusters, return_inverse=True)
    table = np.zeros((int(of_units.max()) + 1, size * size))
    np.add.at(table, (of_units, codes[: len(first)] * size + codes[len(first) :]), 1.0)
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    cost = {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]

    def finalize(sums: Floats) -> Floats:
        counts = sums.reshape(*sums.shape[:-1], size, size)
        total = counts.sum(axis=(-2, -1))
        rows, columns = counts.sum(axis=-1), counts.sum(axis=-2)
        expected = np.einsum("...i,ij,...j->...", rows, cost, columns)
        observed = (counts * cost).sum(axis=(-2, -1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 - observed * total / np.where(expected > 0, expected, np.nan))

    return bootstrap(table, finalize, confidence, AGREEMENT)
