"""From scores of rows to values of metrics, overall and by slice, while the rows stream past.

    block of scores ──add──> a tally per (metric, slice) ──estimate──> value, error, interval

    independent rows             moments                      exact, whatever the number of rows
    answers of one prompt        sums over each cluster       Student's t over clusters
    corpus metrics               sums over each cluster       bootstrap

Memory does not grow with the rows. Beyond `MAX_CLUSTERS`, every so many-th cluster shares a place with the first
ones: clusters are independent, so that the sums over such groups spread as the clusters do, and 131,072 groups
tell the error as well as 131,072 clusters. Knows nothing of files or of how a row is scored.
"""

import math
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
"""Places for the sums of clusters, per metric and slice."""
OVERALL = "all"
"""Name of the slice that holds every row."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredObservations:
    """What one metric says about some observations: answers, or prompts.

    Attributes:
        values: float64 [n]; arbitrary where nothing was scored.
        scored: bool [n]: whether there is a value.
        clusters: int64 [n]: observations with one number hang together.
        stats: float64 [n, k]: row statistics of a corpus metric; [n, 0] for all others.
    """

    values: Floats
    scored: Mask
    clusters: Integers
    stats: Floats

    def where(self, chosen: Mask) -> "ScoredObservations":
        """Only the chosen observations."""
        return ScoredObservations(
            self.values[chosen], self.scored[chosen], self.clusters[chosen], self.stats[chosen]
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A row of metrics.parquet: one metric over one slice.

    Attributes:
        n: observations that have a score.
        coverage: their share of all that should have one; None where there were none.
    """

    spec: Spec
    slice: str
    n: int
    coverage: float | None
    estimate: PointEstimate


class ClusterIndex(Protocol):
    """Gives each cluster a place, from 0."""

    def places(self, clusters: Integers) -> Integers:
        """The places of these clusters."""


class BlockLocalClusters:
    """For clusters that never go on in another block, such as the answers of one prompt."""

    def __init__(self) -> None:
        self._count = 0

    def places(self, clusters: Integers) -> Integers:
        """New places for all of them."""
        distinct, places = np.unique(clusters, return_inverse=True)
        places = places + self._count
        self._count += len(distinct)
        return places.astype(np.int64)


class GlobalClusters:
    """For clusters that come back any time, such as the passages that questions are about. Remembers each."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def places(self, clusters: Integers) -> Integers:
        """The places of these clusters, new ones for those that were never seen."""
        known = self._known
        return np.array([known.setdefault(c, len(known)) for c in clusters.tolist()], np.int64)


class ClusterSums:
    """Sums over each cluster, and how many observations it has: a table that grows up to `MAX_CLUSTERS` rows."""

    def __init__(self, width: int, numbering: ClusterIndex) -> None:
        self._table = np.zeros((16, width + 1))
        self._used = 0
        self._numbering = numbering

    def add(self, clusters: Integers, values: Floats) -> None:
        """Add observations, float64 [n, width]."""
        if not len(values):
            return
        places = self._numbering.places(clusters) % MAX_CLUSTERS
        self._used = max(self._used, int(places.max()) + 1)
        while len(self._table) < self._used:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)])
        np.add.at(self._table, places, np.column_stack([values, np.ones(len(values))]))

    def table(self) -> Floats:
        """float64 [clusters, width + 1]; the last column counts observations."""
        return self._table[: self._used]


class Tally(Protocol):
    """One metric over one slice so far."""

    def add(self, scored: ScoredObservations) -> None:
        """Add observations that all have a score."""

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        """The value, and how sure it is."""


class RowTally:
    """The mean of independent rows."""

    def __init__(self) -> None:
        self._moments = Moments()

    def add(self, scored: ScoredObservations) -> None:
        """Add rows."""
        self._moments += moments(scored.values)

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        """The mean."""
        return row_mean(self._moments, confidence.level, fraction=spec.unit == "fraction")


class ClusterTally:
    """The mean of rows in clusters."""

    def __init__(self, numbering: ClusterIndex) -> None:
        self._sums = ClusterSums(1, numbering)

    def add(self, scored: ScoredObservations) -> None:
        """Add rows."""
        self._sums.add(scored.clusters, scored.values[:, None])

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        """The mean; where no cluster has two rows, they are independent."""
        table = self._sums.table()
        if (table[:, 1] == 1).all():
            single = moments(table[:, 0])
            return row_mean(single, confidence.level, fraction=spec.unit == "fraction")
        return cluster_mean(table, confidence.level, fraction=spec.unit == "fraction")


class CorpusTally:
    """The value of a corpus metric."""

    def __init__(self, width: int, finalize: Finalize, numbering: ClusterIndex) -> None:
        self._sums = ClusterSums(width, numbering)
        self._finalize = finalize

    def add(self, scored: ScoredObservations) -> None:
        """Add rows."""
        self._sums.add(scored.clusters, scored.stats)

    def estimate(self, spec: Spec, confidence: Confidence) -> PointEstimate:
        """The value."""
        found = bootstrap(
            self._sums.table()[:, :-1],
            self._finalize,
            confidence.level,
            replicates=confidence.replicates,
            seed=confidence.seed,
        )
        return found.within(0.0, 1.0) if spec.unit == "fraction" else found


class SliceTallies:
    """The tallies of one metric: over everything, and over each slice."""

    def __init__(self, spec: Spec, new_tally: Callable[[], Tally]) -> None:
        self.spec = spec
        self._new_tally = new_tally
        self._tallies: dict[str, Tally] = {OVERALL: new_tally()}
        self._asked: dict[str, int] = {OVERALL: 0}
        self._scored: dict[str, int] = {OVERALL: 0}

    def add(self, scored: ScoredObservations, slices: Mapping[str, Mask]) -> None:
        """Add a block of observations.

        Args:
            scored: what should have a score.
            slices: which of these belong to each slice, bool [n] by name.
        """
        self._add(OVERALL, scored)
        for name, chosen in slices.items():
            if chosen.any():
                self._add(name, scored.where(chosen))

    def aggregates(self, confidence: Confidence) -> list[Aggregate]:
        """One per slice, everything first, then by name."""
        names = [OVERALL, *sorted(self._tallies.keys() - {OVERALL})]
        return [self._aggregate(name, confidence) for name in names]

    def _add(self, name: str, scored: ScoredObservations) -> None:
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = self._new_tally()
        tally.add(scored.where(scored.scored))
        self._asked[name] = self._asked.get(name, 0) + len(scored.scored)
        self._scored[name] = self._scored.get(name, 0) + int(scored.scored.sum())

    def _aggregate(self, name: str, confidence: Confidence) -> Aggregate:
        n, asked = self._scored[name], self._asked[name]
        estimate = self._tallies[name].estimate(self.spec, confidence)
        if self.spec.unit == "count":
            estimate = estimate.within(0.0, math.inf)
        return Aggregate(self.spec, name, n, n / asked if asked else None, estimate)
