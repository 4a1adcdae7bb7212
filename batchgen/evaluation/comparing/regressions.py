"""Limits on how much worse a run may be: `--fail-if-worse METRIC[:BY]`, and gates against a baseline."""

import math
from dataclasses import dataclass

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.compare import Comparison, MetricComparison
from batchgen.evaluation.gating.gate_facts import ENGLISH, Fact, fact

MIN_COVERAGE = 0.95
"""Least share of rows with a score for a decision, unless the user sets another."""


@dataclass(frozen=True, slots=True)
class MeasuredChange:
    """The difference of a metric from a baseline, over the rows of both; positive is better.

    Attributes:
        gain: None where nothing could be compared.
        reach: of the rule of three for a single pair, as in `PairedResult`.
        method: how the interval was computed, or why there is none.
    """

    gain: float | None
    low: float | None
    high: float | None
    stderr: float | None
    n: int
    reach: float | None = None
    method: str = ""


@dataclass(frozen=True, slots=True)
class RegressionLimit:
    """A metric may get worse by at most `by`; if None, it may not get significantly worse."""

    metric: str
    by: float | None


def parse_limit(option: str, text: str) -> RegressionLimit:
    """Parse `METRIC` or `METRIC:BY`. UsageError if BY is not a number of at least 0."""
    metric, colon, amount = text.partition(":")
    if not colon:
        return RegressionLimit(metric, None)
    try:
        by = float(amount)
    except ValueError:
        by = -1.0
    if not 0 <= by < float("inf"):
        raise UsageError(
            f"{option} {text}: expected a number of at least 0 after the colon",
            hint=f"Such as {option} {metric}:0.02.",
        )
    return RegressionLimit(metric, by)


def regression_reason(comparison: Comparison, limit: RegressionLimit) -> str:
    """The reason why a run exceeds a limit; empty if it does not. UsageError if the metric has no better direction."""
    one = next((m for m in comparison.metrics if m.metric == limit.metric), None)
    if one is None:
        names = ", ".join(m.metric for m in comparison.metrics)
        problem = f"the runs have no metric {limit.metric!r} to compare"
        raise UsageError(problem, hint=f"There are: {names}.")
    if one.higher_is_better is None:
        raise UsageError(f"{limit.metric} has no better direction: neither more nor less is worse")
    if one.reason:
        return f"{limit.metric} is not comparable: {one.reason}"
    if limit.by is None:
        return _significance_reason(one)
    change = measured_change(one)
    if change.low is None or change.high is None:
        return f"{limit.metric} is undecided: {why_no_interval(change)}"
    if change.low >= -limit.by:
        return ""
    verb = "is" if change.high < -limit.by else "may be"
    reason = f"{limit.metric} {verb} worse by more than {limit.by:g}"
    return (
        f"{reason}: {ENGLISH.word(enough_pairs(change, limit.by))}"
        if change.reach is not None
        else reason
    )


def _significance_reason(one: MetricComparison) -> str:
    """The reason why a metric without an allowed loss fails: significantly worse, or nothing to conclude from."""
    reason = ""
    if one.verdict == "worse":
        reason = "is worse"
    elif one.p is None:
        reason = f"is undecided: {one.difference.test.removeprefix('none: ')}"
    elif one.verdict == "inconclusive" and one.losses == one.n:
        reason = f"is worse in all rows, but {one.n:,} are too few for a test"
    elif one.verdict == "inconclusive" and one.lost > (1 - MIN_COVERAGE) * one.n:
        reason = f"is undecided: {one.lost:,} of {one.n:,} rows have a score in the base run only"
    return reason and f"{one.metric} {reason}"


def why_no_interval(change: MeasuredChange) -> str:
    """Why a change has no interval."""
    return change.method.removeprefix("none: ") or f"{change.n:,} rows are too few for an interval"


def enough_pairs(change: MeasuredChange, allowed: float) -> Fact:
    """How many pairs like those of a change, whose `reach` is known, would rule out a loss above `allowed`."""
    room = allowed + (change.gain or 0.0)
    if room <= 0:
        return fact("never_enough_pairs")
    return fact("enough_pairs", pairs=math.ceil((change.reach or 0.0) / room))


def measured_change(one: MetricComparison) -> MeasuredChange:
    """The difference as a gain: positive is better. All None if the metric has no better direction."""
    difference = one.difference
    low, high, value = difference.low, difference.high, difference.value
    if one.higher_is_better is None:
        why = f"{one.metric} has no better direction"
        return MeasuredChange(None, None, None, None, one.n, method=f"none: {why}")
    if not one.higher_is_better:
        low, high = (None if high is None else -high), (None if low is None else -low)
        value = None if value is None else -value
    return MeasuredChange(
        value, low, high, difference.stderr, one.n, difference.reach, difference.method
    )
