"""The result of a comparison: a difference with its interval and p, and the verdict on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from batchgen.metrics.statistics.intervals import ValueRange, rule_of_three

POWER_80 = 2.8
"""The difference that a two-sided test at 5 % detects with a power of 80 %, in standard errors: 1.96 + 0.84."""
MIN_DIFFERING = 5
"""With fewer pairs whose difference is not the most frequent one, Student's t and the bootstrap are too narrow for values
with a range."""
ComparisonVerdict = Literal[
    "better", "worse", "higher", "lower", "equivalent", "inconclusive", "not comparable"
]


@dataclass(frozen=True, slots=True)
class PairedResult:
    """By how much a metric differs.

    Attributes:
        value: new minus base; None where nothing could be compared.
        low: lower end of its interval.
        p: probability of a difference at least as large by chance.
        test: which test gave p, or why there is none.
        method: how the interval was computed, or why there is none.
        pairs: independent pairs: rows, or clusters of rows.
        reach: of the rule of three for a single pair: with n pairs an interval reaches at least `reach` / n to both sides.
            None where the pairs differ enough for another method.
    """

    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    p: float | None
    test: str
    method: str = ""
    pairs: int = 0
    reach: float | None = None

    @property
    def detectable(self) -> float | None:
        """Smallest difference that such data would detect 4 times out of 5, at 5 %; None where hardly a pair differs."""
        return None if self.stderr is None or self.reach is not None else POWER_80 * self.stderr

    def pairs_needed(self, room: float) -> int | None:
        """How many such pairs would have an interval that reaches no further than `room`.

        Where pairs differ: with a power of 80 %, if the runs are equal. None if no number would.
        """
        if room <= 0 or self.value is None:
            return None
        if self.reach is not None:
            return math.ceil(self.reach / room)
        if not self.stderr:
            return None
        return max(math.ceil(self.pairs * (POWER_80 * self.stderr / room) ** 2), self.pairs + 1)

    def clipped(self, least: float, most: float) -> "PairedResult":
        """The same with the interval cut to the possible values."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(least, self.low), high=min(most, self.high))


NO_PAIRS = PairedResult(None, None, None, None, None, "no rows in common that have a score")


def at_least_rule_of_three(
    found: PairedResult, bounds: ValueRange | None, level: float
) -> PairedResult:
    """The same with an interval that is at least as wide as if one pair differed by the whole range."""
    if bounds is None or found.value is None:
        return found
    share = rule_of_three(found.pairs, level)
    reach, method = share * bounds.width, "rule of three"
    low, high = found.value - reach, found.value + reach
    if found.low is not None and found.high is not None and found.stderr:
        if found.low <= low and found.high >= high:
            return found
        low, high = min(low, found.low), max(high, found.high)
        method = f"{found.method}, at least the rule of three"
    widened = replace(found, low=low, high=high, method=method, reach=reach * found.pairs)
    return widened.clipped(-bounds.width, bounds.width)


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
