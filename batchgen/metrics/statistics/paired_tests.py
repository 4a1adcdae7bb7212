"""Two runs on the same rows: by how much a metric differs, and whether that could be chance.

    paired rows ──difference per row──> clustered t interval · exact McNemar, or signs flipped at random
    row statistics of both ──same resampled clusters──> paired bootstrap

The difference is the new run minus the base run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from batchgen.metrics.statistics.distributions import normal_quantile, sign_test_p, z_test_p
from batchgen.metrics.statistics.intervals import (
    Confidence,
    Finalize,
    Floats,
    Integers,
    cluster_mean,
    moments,
    resample,
    row_mean,
)

POWER_80 = 2.8
"""The difference that a two-sided test at 5 % detects with a power of 80 %, in standard errors: 1.96 + 0.84."""
EXACT_FLIPS = 12
"""Up to this many clusters that differ, every combination of signs is tried."""
MAX_SIGN_FLIPPED = 20_000
"""Beyond this many clusters the sum of random signs is treated as normal."""
SIGN_FLIPS = 10_000
_BLOCK = 1 << 20

ComparisonVerdict = Literal[
    "better", "worse", "higher", "lower", "equivalent", "inconclusive", "not comparable"
]


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The scores of two runs for the same observations.

    Attributes:
        base: float64 [n].
        new: float64 [n].
        clusters: int64 [n], from 0: observations with the same number are dependent.
    """

    base: Floats
    new: Floats
    clusters: Integers

    @property
    def single(self) -> bool:
        """Whether every observation is a cluster of its own."""
        return len(np.unique(self.clusters)) == len(self.clusters)

    @property
    def binary(self) -> bool:
        """Whether both runs have only zeros and ones."""
        both = np.concatenate([self.base, self.new])
        return bool(((both == 0) | (both == 1)).all())


@dataclass(frozen=True, slots=True)
class PairedResult:
    """By how much a metric differs.

    Attributes:
        value: new minus base; None where nothing could be compared.
        low: lower end of its interval.
        p: probability of a difference at least as large by chance.
        test: which test gave p, or why there is none.
    """

    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    p: float | None
    test: str

    @property
    def detectable(self) -> float | None:
        """Smallest difference that such data would detect 4 times out of 5, at 5 %."""
        return None if self.stderr is None else POWER_80 * self.stderr

    def clipped(self, least: float, most: float) -> "PairedResult":
        """The same with the interval cut to the possible values."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(least, self.low), high=min(most, self.high))


NO_PAIRS = PairedResult(None, None, None, None, None, "no rows in common that have a score")


def compare_means(pairs: PairedScores, confidence: Confidence) -> PairedResult:
    """Compare the means of paired scores."""
    level = confidence.level
    if not len(pairs.base):
        return NO_PAIRS
    differences = pairs.new - pairs.base
    if pairs.single and pairs.binary:
        return _matched_rates(differences, level)
    sums = np.column_stack(
        [np.bincount(pairs.clusters, differences), np.bincount(pairs.clusters).astype(np.float64)]
    )
    sums = sums[sums[:, 1] > 0]
    found = (
        row_mean(moments(differences), level, fraction=False)
        if pairs.single
        else cluster_mean(sums, level, fraction=False)
    )
    if found.stderr is None:
        return PairedResult(found.value, None, None, None, None, found.method)
    p, test = _sign_flip(sums[:, 0], confidence.seed)
    return PairedResult(found.value, found.stderr, found.low, found.high, p, test)


def _matched_rates(differences: Floats, level: float) -> PairedResult:
    """Two rates over the same rows: exact McNemar, and the interval of Agresti and Min (2005), which stays open at 0."""
    count = len(differences)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    value = (wins - losses) / count
    p = sign_test_p(losses, wins + losses)
    if count < 2:
        return PairedResult(value, None, None, None, p, "exact McNemar")
    padded = count + 2
    middle = (wins - losses) / padded
    spread = math.sqrt(wins + losses + 1 - (wins - losses) ** 2 / padded) / padded
    reach = normal_quantile((1 + level) / 2) * spread
    low, high = max(-1.0, middle - reach), min(1.0, middle + reach)
    return PairedResult(value, spread, low, high, p, "exact McNemar")


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
    for first in range(0, SIGN_FLIPS, together):
        count = min(together, SIGN_FLIPS - first)
        bits = generator.integers(0, 2, size=(count, len(terms)), dtype=np.int8)
        extreme += int((np.abs((1 - 2 * bits).astype(np.float64) @ terms) >= least).sum())
    return (extreme + 1) / (SIGN_FLIPS + 1), "sign flips"


def compare_corpora(
    base: Floats, new: Floats, finalize: Finalize, confidence: Confidence
) -> PairedResult:
    """Compare the values of a corpus metric: both runs are resampled with the same weights.

    p is that of sacrebleu's paired bootstrap: how often replicates, shifted to a mean of 0, differ as much. With few rows
    hardly a replicate is extreme, so p is at least the smallest p that exchanging the runs row by row could give.
    `base` and `new` are row statistics, summed over the same clusters: float64 [clusters, k].
    """
    level, replicates = confidence.level, confidence.replicates
    if not len(base):
        return NO_PAIRS
    width = base.shape[1]
    value = float(finalize(new.sum(axis=0)) - finalize(base.sum(axis=0)))
    if len(base) < 2 or replicates < 2:
        return PairedResult(value, None, None, None, None, "too few rows, or no replicates")
    drawn = resample(np.hstack([base, new]), replicates=replicates, seed=confidence.seed)
    differences = finalize(drawn[:, width:]) - finalize(drawn[:, :width])
    differences = differences[np.isfinite(differences)]
    if len(differences) < 0.99 * replicates or not math.isfinite(value):
        return PairedResult(value, None, None, None, None, "too few rows to resample")
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    extreme = int((np.abs(differences - differences.mean()) >= abs(value)).sum())
    differing = int((base != new).any(axis=1).sum())
    p = max((extreme + 1) / (len(differences) + 1), min(1.0, 2.0 ** (1 - differing)))
    spread = float(differences.std(ddof=1))
    return PairedResult(value, spread, float(low), float(high), p, "paired bootstrap")


def adjust_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number, for one family-wise error rate (Holm 1979); None stays None."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[i] = least
    return adjusted


def decide_verdict(
    difference: PairedResult, p: float | None, higher_is_better: bool | None, margin: float | None
) -> ComparisonVerdict:
    """Judge a difference, by a p that is adjusted for the number of metrics.

    Equivalence is tested first: the margin is the largest difference that does not matter. If `higher_is_better` is
    None, the verdict is higher or lower.
    """
    if difference.value is None or p is None:
        return "inconclusive"
    low, high = difference.low, difference.high
    if (
        margin is not None
        and low is not None
        and high is not None
        and -margin <= low <= high <= margin
    ):
        return "equivalent"
    if p >= 0.05 or difference.value == 0:
        return "inconclusive"
    if higher_is_better is None:
        return "higher" if difference.value > 0 else "lower"
    return "better" if (difference.value > 0) == higher_is_better else "worse"
