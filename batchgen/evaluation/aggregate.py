"""From scores of rows to values of metrics, overall and by slice, in one pass over the rows.

    block of scores ──add──> a tally per (metric, slice) ──estimate──> value, error, interval

    independent rows             moments                      exact, whatever the number of rows
    answers of one prompt        sums over each cluster       Student's t over clusters
    corpus metrics               sums over each cluster       bootstrap

Memory does not grow with the rows. Beyond `MAX_CLUSTERS`, or fewer for wide statistics, clusters share rows of the table
in turn. Clusters are independent, so that sums over 131,072 such groups estimate the error as well as 131,072 clusters.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from batchgen.metrics.base import Spec
from batchgen.metrics.statistics.intervals import (
    Confidence,
    Finalize,
    Floats,
    Integers,
    Moments,
    PointEstimate,
    bootstrap,
    cluster_mean,
    moments,
    row_mean,
)

MAX_CLUSTERS = 1 << 17
"""Most rows of a table of cluster sums, per metric and slice."""
_WIDE = 16
"""With more columns than these, a table has fewer rows, but at least `_MIN_CLUSTERS`."""
_MIN_CLUSTERS = 1 << 10
OVERALL = "all"
"""Name of the slice of all rows."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredObservations:
    """The scores of some observations (answers, or prompts) by one metric.

    Attributes:
        values: float64 [n]; arbitrary where not scored.
        scored: bool [n]: whether there is a score.
        clusters: int64 [n]: observations with the same number are dependent.
        stats: float64 [n, k]: row statistics of a corpus metric; [n, 0] for others.
    """

    values: Floats
    scored: Mask
    clusters: Integers
    stats: Floats

    def select(self, chosen: Mask) -> "ScoredObservations":
        """The observations where `chosen`, bool [n], is true."""
        return ScoredObservations(
            self.values[chosen], self.scored[chosen], self.clusters[chosen], self.stats[chosen]
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A row of metrics.parquet: one metric over one slice.

    Attributes:
        n: observations with a score.
        coverage: their share of all observations that should have one; None where there are none.
    """

    spec: Spec
    slice: str
    n: int
    coverage: float | None
    estimate: PointEstimate


class ClusterIndex(Protocol):
    """Maps clusters to positions, from 0."""

    def positions(self, clusters: Integers) -> Integers:
        """int64 [n] to int64 [n]."""


class BlockLocalClusters:
    """For clusters that never span two blocks, such as the answers of one prompt: all are new."""

    def __init__(self) -> None:
        self._count = 0

    def positions(self, clusters: Integers) -> Integers:
        distinct, positions = np.unique(clusters, return_inverse=True)
        positions = positions + self._count
        self._count += len(distinct)
        return positions.astype(np.int64)


class GlobalClusters:
    """For clusters in any order, such as the passages that questions are about. Keeps each in memory."""

    def __init__(self) -> None:
        self._positions: dict[int, int] = {}

    def positions(self, clusters: Integers) -> Integers:
        seen = self._positions
        return np.array([seen.setdefault(c, len(seen)) for c in clusters.tolist()], np.int64)


class ClusterSums:
    """Sums and numbers of observations of each cluster, in a table of up to `MAX_CLUSTERS` rows."""

    def __init__(self, width: int, index: ClusterIndex) -> None:
        within = MAX_CLUSTERS * _WIDE // max(_WIDE, width)
        self._most = max(within, min(_MIN_CLUSTERS, MAX_CLUSTERS))
        self._table = np.zeros((16, width + 1))
        self._used = 0
        self._index = index

    def add(self, clusters: Integers, values: Floats) -> None:
        """Add observations: `values` are float64 [n, width]."""
        if not len(values):
            return
        positions = self._index.positions(clusters) % self._most
        self._used = max(self._used, int(positions.max()) + 1)
        while len(self._table) < self._used:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        np.add.at(self._table, positions, np.column_stack([values, np.ones(len(values))]))

    def table(self) -> Floats:
        """float64 [clusters, width + 1]; the last column counts observations."""
        return self._table[: self._used]


class Tally(Protocol):
    """One metric over one slice. Added observations must have a score."""

    def add(self, scored: ScoredObservations) -> None: ...

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate: ...


class RowTally:
    """The mean of independent rows."""

    def __init__(self) -> None:
        self._moments = Moments()

    def add(self, scored: ScoredObservations) -> None:
        self._moments += moments(scored.values)

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        return row_mean(self._moments, confidence.level, spec.value_range)


class ClusterTally:
    """The mean of rows in clusters."""

    def __init__(self, index: ClusterIndex) -> None:
        self._sums = ClusterSums(1, index)

    def add(self, scored: ScoredObservations) -> None:
        self._sums.add(scored.clusters, scored.values[:, None])

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        """The mean; where no cluster has two rows, that of independent rows."""
        table = self._sums.table()
        if (table[:, 1] == 1).all():
            return row_mean(moments(table[:, 0]), confidence.level, spec.value_range)
        return cluster_mean(table, confidence.level, spec.value_range)


class CorpusTally:
    """The value of a corpus metric."""

    def __init__(self, width: int, finalize: Finalize, index: ClusterIndex) -> None:
        self._sums = ClusterSums(width, index)
        self._finalize = finalize

    def add(self, scored: ScoredObservations) -> None:
        self._sums.add(scored.clusters, scored.stats)

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        sums = self._sums.table()[:, :-1]
        return bootstrap(sums, self._finalize, confidence, spec.value_range)


class SliceTallies:
    """The tallies of one metric: over all rows, and over each slice."""

    def __init__(self, spec: Spec, new_tally: Callable[[], Tally]) -> None:
        self.spec = spec
        self._tallies = defaultdict(new_tally, {OVERALL: new_tally()})
        self._observed, self._scored = Counter[str](), Counter[str]()

    def add(self, scored: ScoredObservations, slices: Mapping[str, Mask]) -> None:
        """Add a block of observations. `slices` has by name which of them belong to the slice, bool [n]."""
        self._add(OVERALL, scored)
        for name, chosen in slices.items():
            if chosen.any():
                self._add(name, scored.select(chosen))

    def aggregates(self, confidence: Confidence) -> list[Aggregate]:
        """One per slice: all rows first, then by name."""
        aggregates = []
        for name in (OVERALL, *sorted(self._tallies.keys() - {OVERALL})):
            n, observed = self._scored[name], self._observed[name]
            estimate = self._tallies[name].estimate(self.spec, confidence)
            if self.spec.unit == "count":
                estimate = estimate.clipped(0.0, math.inf)
            coverage = n / observed if observed else None
            aggregates.append(Aggregate(self.spec, name, n, coverage, estimate))
        return aggregates

    def _add(self, name: str, scored: ScoredObservations) -> None:
        self._tallies[name].add(scored.select(scored.scored))
        self._observed[name] += len(scored.scored)
        self._scored[name] += int(scored.scored.sum())
