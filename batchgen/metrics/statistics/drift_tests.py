"""Two independent samples of prompts: whether their answers have the same distribution, and how far apart the two are.

    a number for each prompt ────────> Kolmogorov-Smirnov, exact also with ties
    shares by category ──────────────> Fisher's exact test, or a permutation test of the mean shares
    texts of the answers ────────────> a permutation test of the share of duplicates

The unit is the prompt, whatever the number of its answers: several answers to one prompt are not independent. Prompts that
both samples contain make the tests conservative. Each distance is from 0 (equal) to 1.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.distributions import chi_square_p, kolmogorov_p
from batchgen.metrics.statistics.intervals import Floats

EXACT_PROMPTS = 10_000
"""Up to this many prompts in both samples together, Kolmogorov-Smirnov is exact."""
PERMUTATIONS = 9_999
_EXPECTED = 5
"""Least expected number of prompts in each category for the distribution of chi-square."""
_EXTREME_IS_ENOUGH = 40
"""A permutation test ends after so many permutations at least as extreme (Besag and Clifford 1991)."""
_WORK = 200_000_000
"""Prompts that a permutation test of duplicates may move altogether."""
EQUAL = "none needed: equal"
"""In place of the name of a test."""
FISHER, CHI_SQUARE, PERMUTATION = "Fisher's exact", "chi-square", "permutation"
SMIRNOV, SMIRNOV_EXACT = "Kolmogorov-Smirnov", "Kolmogorov-Smirnov, exact"
"""Names of tests."""
_ROUNDING = 1e-9

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DriftTest:
    """The result of a test.

    Attributes:
        p: probability of a distance at least as large by chance.
        distance: between the two distributions: 0 if they are equal, 1 if they have nothing in common.
        test: its name.
        least: the smallest p that samples of this size can have: a larger limit is never reached.
    """

    p: float
    distance: float
    test: str
    least: float


def compare_numbers(base: Floats, new: Floats) -> DriftTest:
    """The two-sample test of Kolmogorov and Smirnov. Float64 [prompts] each, not empty."""
    n, m = len(base), len(new)
    pooled = np.concatenate([base, new])
    order = np.argsort(pooled, kind="stable")
    of_base = np.cumsum(order < n)
    ends = np.append(np.diff(pooled[order]) > 0, True)  # the last of equal values
    seen = np.arange(1, n + m + 1)
    gaps = np.abs(of_base * m - (seen - of_base) * n)[ends]
    widest = int(gaps.max())
    distance, least = widest / (n * m), least_p(n, m)
    if widest == 0:
        return DriftTest(1.0, 0.0, EQUAL, least)
    if n + m > EXACT_PROMPTS:
        p = kolmogorov_p(distance, n * m / (n + m))
        return DriftTest(p, distance, SMIRNOV, least)
    p = _smirnov_p(widest, min(n, m), max(n, m), ends)
    return DriftTest(p, distance, SMIRNOV_EXACT, least)


def _smirnov_p(widest: int, n: int, m: int, ends: npt.NDArray[np.bool_]) -> float:
    """Probability that samples drawn from the pooled values without replacement are at least as far apart.

    A path through a grid: each value in ascending order is one of the first sample, or of the second. Paths that leave the
    band at the end of a group of equal values are counted, and end there.
    """
    drawn = np.arange(n + 1)
    share = np.zeros(n + 1)
    share[0] = 1.0
    outside = 0.0
    for done in range(n + m):
        left = n + m - done
        first = share * ((n - drawn) / left)
        share *= np.clip((m - (done - drawn)) / left, 0, None)
        share[1:] += first[:-1]
        if ends[done]:
            left_band = np.abs(drawn * m - (done + 1 - drawn) * n) >= widest
            outside += float(share[left_band].sum())
            share[left_band] = 0.0
    return min(1.0, outside)


def compare_shares(base: Floats, new: Floats, *, seed: int = 0) -> DriftTest:
    """Compare the mean shares of categories. Float64 [prompts, categories] each, whose rows sum to 1, not empty.

    The distance is the share of answers that would have to move to another category (total variation). The statistic is the
    quadratic form of Strasser and Weber (1999): with one answer to each prompt, chi-square times (N - 1) / N.
    """
    n, m = len(base), len(new)
    change = new.mean(axis=0) - base.mean(axis=0)
    distance, least = float(np.abs(change).sum() / 2), least_p(n, m)
    if distance < _ROUNDING:
        return DriftTest(1.0, 0.0, EQUAL, least)
    pooled = np.vstack([base, new])
    kinds, kind = np.unique(pooled, axis=0, return_inverse=True)
    kind = kind.reshape(-1)  # numpy 2.0 keeps a second axis
    counts = np.bincount(kind)
    if len(kinds) == 2:
        in_base = int((kind[:n] == 0).sum())
        p = fisher_exact_p(in_base, n, int(counts[0]), n + m)
        return DriftTest(p, distance, FISHER, least)
    scales = _whitened(np.cov(pooled, rowvar=False) * ((n + m) / (n * m)))
    found = float(((change @ scales) ** 2).sum())
    if pooled.mean(axis=0).min() * min(n, m) >= _EXPECTED:
        return DriftTest(chi_square_p(found, scales.shape[1]), distance, CHI_SQUARE, least)
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(counts, n, size=PERMUTATIONS)
    sums = drawn @ kinds
    moved = ((counts @ kinds - sums) / m - sums / n) @ scales
    as_far = (moved**2).sum(axis=1) >= found * (1 - _ROUNDING)
    p = (int(as_far.sum()) + 1) / (PERMUTATIONS + 1)
    return DriftTest(p, distance, PERMUTATION, max(least, 1 / (PERMUTATIONS + 1)))


def _whitened(covariance: Floats) -> Floats:
    """Directions in which a vector of this covariance has independent parts of variance 1: float64 [categories, rank].

    Shares sum to 1, so that there is at least one direction without variance.
    """
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > variances.max() * _ROUNDING
    scaled: Floats = directions[:, kept] / np.sqrt(variances[kept])
    return scaled


def fisher_exact_p(found: int, drawn: int, marked: int, total: int) -> float:
    """Two-sided p of `found` marked ones among `drawn` of `total`, of which `marked` are marked."""
    low, high = max(0, drawn + marked - total), min(drawn, marked)
    values = np.arange(low, high, dtype=np.float64)
    steps = np.log((marked - values) * (drawn - values))
    steps -= np.log((values + 1) * (total - marked - drawn + values + 1))
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    logs -= logs.max()
    weights = np.exp(logs)
    as_rare = logs <= logs[found - low] + 1e-7
    return min(1.0, float(weights[as_rare].sum() / weights.sum()))


@dataclass(frozen=True, slots=True)
class PromptTexts:
    """The different answers to each prompt, without repetitions of one text for one prompt.

    Attributes:
        texts: a number for each text, equal for equal texts in both samples: uint64 [answers].
        prompts: the prompt of each, from 0: int64 [answers].
    """

    texts: npt.NDArray[np.uint64]
    prompts: Integers

    @property
    def count(self) -> int:
        """The number of prompts."""
        return int(self.prompts[-1]) + 1 if len(self.prompts) else 0


def compare_duplicates(base: PromptTexts, new: PromptTexts, *, seed: int = 0) -> DriftTest:
    """Compare the shares of answers whose text another prompt in the same sample has too. Neither is empty.

    Duplicates come in groups, so that they are not independent; therefore prompts are dealt to the two samples at random.
    """
    n, m = base.count, new.count
    texts, codes = np.unique(np.concatenate([base.texts, new.texts]), return_inverse=True)
    prompts = np.concatenate([base.prompts, new.prompts + n])
    in_base = prompts < n
    found = abs(_share_apart(codes, in_base, len(texts)))
    limit = int(np.clip(_WORK // (n + m), 2_499, PERMUTATIONS))
    least = max(least_p(n, m), 1 / (limit + 1))
    if found < _ROUNDING:
        return DriftTest(1.0, 0.0, EQUAL, least)
    generator = np.random.default_rng(seed)
    dealt = np.arange(n + m) < n
    extreme = tried = 0
    while tried < limit and extreme < _EXTREME_IS_ENOUGH:
        side = generator.permutation(dealt)[prompts]
        extreme += abs(_share_apart(codes, side, len(texts))) >= found * (1 - _ROUNDING)
        tried += 1
    p = extreme / tried if extreme == _EXTREME_IS_ENOUGH else (extreme + 1) / (tried + 1)
    return DriftTest(p, found, PERMUTATION, least)


def duplicate_share(found: PromptTexts) -> float:
    """The share of answers whose text an earlier prompt has too."""
    return 1 - len(np.unique(found.texts)) / len(found.texts)


def _share_apart(codes: Integers, in_base: npt.NDArray[np.bool_], texts: int) -> float:
    """The share of duplicates outside minus that inside."""
    shares = []
    for side in (in_base, ~in_base):
        chosen = codes[side]
        distinct = np.count_nonzero(np.bincount(chosen, minlength=texts))
        shares.append(1 - distinct / max(1, len(chosen)))
    return float(shares[1] - shares[0])


def least_p(n: int, m: int) -> float:
    """The p of two samples that have nothing in common: of all ways to deal the prompts, this one is as extreme, and its mirror image."""
    ways = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    return min(1.0, (2 if n == m else 1) * math.exp(-ways))
