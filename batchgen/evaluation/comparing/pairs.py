"""One metric in two runs: the rows that a run scored, their difference by slice, and the flipped rows.

A row that only one run scored counts with the worst possible value in the other: without it, a run that loses half of its
answers would be as good as before. A metric without a worst value cannot be decided then.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchgen.evaluation.block_scores import is_sum
from batchgen.evaluation.comparing.paired_rows import Mask, PairedRows, RowScores
from batchgen.evaluation.comparing.summed_clusters import (
    SummedClusters,
    dense_numbers,
    order_clusters,
)
from batchgen.metrics.base import Metric, SumMetric
from batchgen.metrics.statistics.corpus_tests import compare_corpora
from batchgen.metrics.statistics.intervals import Confidence, Finalize, Floats, ValueRange
from batchgen.metrics.statistics.paired_results import NO_PAIRS, PairedResult
from batchgen.metrics.statistics.paired_tests import PairedScores, compare_means
from batchgen.metrics.statistics.resampling import RowStatistics, sum_rows
from batchgen.records import MetricRow

_BLOCK = 1 << 16
"""Rows among which flips are sought at one time."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A row whose score changed. A score is None if the run has none for the row."""

    id: str
    sample: int | None
    base: float | None
    new: float | None


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference over the rows that count.

    Attributes:
        base: the metric's value in the base run, over these rows; None without a row.
        wins: rows with a better score in the new run; with a greater one, if the metric has no better
            direction.
    """

    n: int
    base: float | None
    new: float | None
    difference: PairedResult
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """The difference over the rows of one slice; a row's slice is that of the base run.

    Exploratory: among many slices some differ by chance, and p is not adjusted for their number.
    """

    slice: str
    change: PairedDifference


@dataclass(frozen=True, slots=True)
class Noise:
    """How many rows differ between two runs of one job."""

    n: int
    flips: int

    @property
    def rate(self) -> float:
        """Flipped rows per row."""
        return self.flips / self.n


@dataclass(frozen=True, slots=True)
class MetricPairing:
    """The comparison of one metric. `metric` is None if the metric that made the scores is unknown."""

    row: MetricRow
    metric: Metric | None

    @property
    def worst(self) -> float | None:
        """The worst possible value; None where there is none, or no better direction."""
        if self.row.higher_is_better is None:
            return None
        return self.row.least if self.row.higher_is_better else self.row.most

    @property
    def value_range(self) -> ValueRange | None:
        """The smallest and the largest possible value of a row and of a run."""
        least, most = self.row.least, self.row.most
        return None if least is None or most is None else ValueRange(least, most)

    @property
    def missing(self) -> float:
        """The value of a row that one run did not score."""
        return math.nan if self.worst is None else self.worst

    def change(self, pairs: PairedRows) -> PairedDifference:
        """Compare over the rows that count; without a worst value, a missing score leaves the result undecided."""
        counted = self.counted(pairs)
        if not len(counted):
            return PairedDifference(0, None, None, NO_PAIRS, 0, 0, 0)
        base, new, difference = self._compare(counted)
        if excluded := len(pairs) - len(counted):
            why = f"none: {excluded:,} of {len(pairs):,} rows have a score in one run only, and {self.row.metric} has no worst value"
            difference = PairedResult(difference.value, None, None, None, None, why, why)
        gains = self.gains(counted)
        wins, losses = int((gains > 0).sum()), int((gains < 0).sum())
        return PairedDifference(
            len(gains), base, new, difference, wins, len(gains) - wins - losses, losses
        )

    def counted(self, pairs: PairedRows) -> PairedRows:
        """The rows that count; `pairs` has `missing` for a missing score. Without a worst value, such a row does not count."""
        return pairs.select(pairs.both) if self.worst is None else pairs

    def _compare(self, counted: PairedRows) -> tuple[float | None, float | None, PairedResult]:
        """The value of the base run, that of the new one, and their difference."""
        confidence, bounds = Confidence(self.row.ci_level), self.value_range
        keys, base, new = counted.keys, counted.base, counted.new
        clusters = dense_numbers(keys.ids if keys.clusters is None else keys.clusters)
        if self.metric is None or not is_sum(self.metric):
            scores = PairedScores(base.values, new.values, clusters, bounds)
            return _mean(base.values), _mean(new.values), compare_means(scores, confidence)
        finalize = _with_missing(self.metric, self.worst or 0.0)
        order = order_clusters(clusters)
        del clusters  # as large as the ids
        one, other = (SummedClusters(run, order, len(self.metric.stats)) for run in (base, new))
        values = _corpus_value(finalize, one), _corpus_value(finalize, other)
        return *values, compare_corpora(one, other, finalize, confidence, value_range=bounds)

    def gains(self, counted: PairedRows) -> Floats:
        """Improvement of each row; its increase, if the metric has no better direction: float64 [rows]."""
        gains = counted.new.values - counted.base.values
        return np.negative(gains, out=gains) if self.row.higher_is_better is False else gains

    def slices(self, pairs: PairedRows) -> Iterator[SliceDifference]:
        """Compare over each slice, in the order of `evaluate.slices`, then by name."""
        for column in pairs.keys.slices:
            for name in sorted(column.unique().cast(str).to_list()):
                chosen: Mask = (column == name).to_numpy()
                yield SliceDifference(name, self.change(pairs.select(chosen)))


def find_flips(
    counted: PairedRows,
    gains: Floats,
    most: int,
    find_ids: Callable[[Sequence[int]], Mapping[int, str]],
) -> Sequence[Flip]:
    """The rows with the most negative gains, the worst first; ties in input order. `find_ids` gives the ids of ranks."""
    worst = [row for row in smallest(gains, most).tolist() if gains[row] < 0]
    keys = counted.keys
    texts = find_ids(sorted({int(keys.ids[row]) for row in worst}))
    return [
        Flip(
            id=texts[int(keys.ids[row])],
            sample=None if keys.samples is None else int(keys.samples[row]),
            base=_score(counted.base, row),
            new=_score(counted.new, row),
        )
        for row in worst
    ]


def smallest(values: Floats, most: int) -> npt.NDArray[np.int64]:
    """The positions of the smallest values, ascending; of equal ones the first: int64 [up to `most`]."""
    found = np.empty(0, np.int64)
    for start in range(0, len(values), _BLOCK):
        found = np.concatenate([found, np.arange(start, min(start + _BLOCK, len(values)))])
        found = found[np.argsort(values[found], kind="stable")[:most]]
    return found


def _score(scores: RowScores, row: int) -> float | None:
    return float(scores.values[row]) if scores.scored[row] else None


def _mean(values: Floats) -> float | None:
    with np.errstate(over="ignore"):
        mean = float(values.mean())
    return mean if math.isfinite(mean) else None


def _corpus_value(finalize: Finalize, sums: RowStatistics) -> float | None:
    value = float(finalize(sum_rows(sums)))
    return value if math.isfinite(value) else None


def _with_missing(metric: SumMetric, worst: float) -> Finalize:
    """The value of a corpus some of whose rows have no score: its value over the others and the worst value, weighted by rows.

    Of the sums, float64 [..., k + 2], the last two are the rows with a score, and all rows.
    """

    def finalize(sums: Floats) -> Floats:
        scored = sums[..., -2] / sums[..., -1]
        value = np.where(scored > 0, metric.finalize(sums[..., :-2]), worst)
        mixed: Floats = scored * value + (1 - scored) * worst
        return mixed

    return finalize
