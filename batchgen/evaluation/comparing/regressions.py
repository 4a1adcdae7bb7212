"""How much worse a run may be: `--fail-if-worse METRIC[:BY]`, and gates against a baseline.

Knows nothing of files.
"""

from dataclasses import dataclass

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.compare import Comparison, MetricComparison


@dataclass(frozen=True, slots=True)
class MeasuredChange:
    """The difference of a metric from a baseline, over the rows of both; positive is better.

    Attributes:
        gain: None where nothing could be compared.
        low: lower end of its interval; None where there is none.
        high: upper end.
        n: rows, or prompts, that were compared.
    """

    gain: float | None
    low: float | None
    high: float | None
    stderr: float | None
    n: int


@dataclass(frozen=True, slots=True)
class RegressionLimit:
    """A metric, and by how much it may get worse; None: not significantly."""

    metric: str
    by: float | None


def parse_limit(option: str, text: str) -> RegressionLimit:
    """Read `METRIC` or `METRIC:BY`.

    Raises:
        UsageError: BY is no number of at least 0.
    """
    metric, colon, amount = text.partition(":")
    if not colon:
        return RegressionLimit(metric, None)
    try:
        by = float(amount)
    except ValueError:
        by = -1.0
    if not 0 <= by < float("inf"):
        raise UsageError(
            f"{option} {text}: expected a number of at least 0 after the colon, such as 0.02"
        )
    return RegressionLimit(metric, by)


def regression_reason(found: Comparison, limit: RegressionLimit) -> str:
    """Why a run is too much worse, in words; empty if it is not.

    Raises:
        UsageError: there is no such metric, or neither more nor less of it is worse.
    """
    one = next((m for m in found.metrics if m.metric == limit.metric), None)
    if one is None:
        names = ", ".join(m.metric for m in found.metrics)
        raise UsageError(
            f"there is no metric {limit.metric!r} to compare", hint=f"There are: {names}."
        )
    if one.higher_is_better is None:
        raise UsageError(f"{limit.metric}: neither more nor less of it is worse")
    if one.reason:
        return f"{limit.metric} is not comparable: {one.reason}"
    if limit.by is None:
        return f"{limit.metric} is worse" if one.verdict == "worse" else ""
    change = measured_change(one)
    if change.low is None or change.high is None:
        return f"{limit.metric}: {one.n:,} rows are too few for an interval"
    if change.low >= -limit.by:
        return ""
    surely = change.high < -limit.by
    return f"{limit.metric} {'is' if surely else 'may be'} worse by more than {limit.by:g}"


def measured_change(one: MetricComparison) -> MeasuredChange:
    """A comparison in gains: positive is better. A metric of which neither more nor less is better has none."""
    difference = one.difference
    low, high, value = difference.low, difference.high, difference.value
    if one.higher_is_better is None:
        return MeasuredChange(None, None, None, None, one.n)
    if not one.higher_is_better:
        low, high = (None if high is None else -high), (None if low is None else -low)
        value = None if value is None else -value
    return MeasuredChange(value, low, high, difference.stderr, one.n)
