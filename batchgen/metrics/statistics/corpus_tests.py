"""Two values of a corpus metric on the same rows: by how much they differ, and whether that could be chance.

row statistics of both ──the same resampled clusters──> interval
                       ──clusters swapped between the runs──> p
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from batchgen.metrics.statistics.intervals import (
    Confidence,
    Finalize,
    Floats,
    ValueRange,
    is_rounding,
)
from batchgen.metrics.statistics.paired_results import (
    MIN_DIFFERING,
    NO_PAIRS,
    PairedResult,
    at_least_rule_of_three,
)
from batchgen.metrics.statistics.paired_tests import EXACT_FLIPS, RANDOMIZATIONS
from batchgen.metrics.statistics.resampling import RowStatistics, blocks_of, resample, sum_rows

MAX_SWAPPED = 8192
"""Beyond this many clusters that differ, groups of them are swapped together."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class _SideBySide:
    """Float64 [rows, 2 k]: the statistics of the base run, and those of the new one."""

    base: RowStatistics
    new: RowStatistics

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, rows: slice, /) -> Floats:
        return np.hstack([self.base[rows], self.new[rows]])


def compare_corpora(
    base: RowStatistics,
    new: RowStatistics,
    finalize: Finalize,
    confidence: Confidence,
    *,
    value_range: ValueRange | None = None,
) -> PairedResult:
    """Compare the values of a corpus metric.

    `base` and `new` are row statistics, summed over the same clusters: float64 [clusters, k]. The interval is a percentile interval: both runs are resampled with the same weights. p is that of approximate
    randomization (Noreen 1989; Riezler and Maxwell 2005), which holds its level with few rows, where the bootstrap does not.
    """
    level, replicates = confidence.level, confidence.replicates
    clusters = len(base)
    if not clusters:
        return NO_PAIRS
    before, now = sum_rows(base), sum_rows(new)
    value = float(finalize(now) - finalize(before))
    if not math.isfinite(value):
        why = "none: too few rows for a value"
        return PairedResult(None, None, None, None, None, why, why, clusters)
    if clusters < 2:
        why = "none: one cluster gives no spread"
        return PairedResult(value, None, None, None, None, why, why, clusters)
    differing = sum(map(len, _changes(base, new)))
    change = _grouped_changes(base, new, min(differing, MAX_SWAPPED))
    p, test = _swap_rows(change, before, now, finalize, seed=confidence.seed)
    found = PairedResult(value, None, None, None, p, test, "none: the bootstrap is off", clusters)
    few = value_range is not None and differing < MIN_DIFFERING
    if replicates >= 2:
        drawn = resample(_SideBySide(base, new), replicates=replicates, seed=confidence.seed)
        width = len(before)
        differences = finalize(drawn[:, width:]) - finalize(drawn[:, :width])
        differences = differences[np.isfinite(differences)]
        if len(differences) < 0.99 * replicates:
            return replace(found, method="none: too few rows to resample")
        low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
        spread = float(differences.std(ddof=1))
        found = replace(found, stderr=spread, low=float(low), high=float(high))
        found = replace(found, method="paired bootstrap")
        if is_rounding(spread, value) or is_rounding(float(high - low), value):
            why = "none: all differences are equal, and the metric has no range"
            found = replace(found, stderr=None, low=None, high=None, method=why)
            few = True
    return at_least_rule_of_three(found, value_range, level) if few else found


def _changes(base: RowStatistics, new: RowStatistics) -> Iterator[Floats]:
    """The statistics of the new run minus those of the base run, of the rows that differ, a block at a time."""
    for one, other in zip(blocks_of(base), blocks_of(new), strict=True):
        change = other - one
        yield change[(change != 0).any(axis=1)]


def _grouped_changes(base: RowStatistics, new: RowStatistics, groups: int) -> Floats:
    """The changes of the rows that differ, summed over groups of rows: float64 [groups, k]."""
    table, done = np.zeros((groups, base[:0].shape[1])), 0
    for change in _changes(base, new) if groups else ():
        np.add.at(table, (done + np.arange(len(change))) % groups, change)
        done += len(change)
    return table


def _swap_rows(
    change: Floats, before: Floats, now: Floats, finalize: Finalize, *, seed: int
) -> tuple[float, str]:
    """Two-sided p: how often runs whose clusters are swapped at random differ as much; and the name of the test.

    `change` is float64 [swapped together, k]; `before` and `now` are the sums of the runs.
    """
    if not len(change):
        return 1.0, "approximate randomization"
    least = abs(float(finalize(now) - finalize(before))) * (1 - 1e-9)
    tried = extreme = 0
    for swapped in _swaps(len(change), seed):
        moved = swapped @ change
        apart = np.abs(finalize(now - moved) - finalize(before + moved))
        extreme += int((~(apart < least)).sum())  # NaN counts as extreme
        tried += len(swapped)
    if len(change) <= EXACT_FLIPS:
        return extreme / tried, "exact randomization"
    return (extreme + 1) / (tried + 1), "approximate randomization"


def _swaps(clusters: int, seed: int) -> Iterator[Floats]:
    """Which clusters to swap: float64 [some, clusters] of zeros and ones; with few clusters every combination."""
    if clusters <= EXACT_FLIPS:
        numbers = np.arange(1 << clusters)
        yield ((numbers[:, None] >> np.arange(clusters)) & 1).astype(np.float64)
        return
    generator = np.random.default_rng(seed)
    together = max(1, _BLOCK // clusters)
    for first in range(0, RANDOMIZATIONS, together):
        count = min(together, RANDOMIZATIONS - first)
        yield generator.integers(0, 2, size=(count, clusters), dtype=np.int8).astype(np.float64)
