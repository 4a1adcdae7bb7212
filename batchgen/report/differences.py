"""The section of the page about the differences between two runs, as plain values for the template."""

from collections.abc import Sequence
from typing import Any

from batchgen.evaluation.comparing.compare import Comparison, MetricComparison
from batchgen.report.charts.draw_charts import Interval, interval_chart
from batchgen.report.number_text import format_p, format_signed, format_value
from batchgen.report.page_text import TEXTS
from batchgen.report.translation.reasons import reason_texts

_MAX_SLICES = 60
_GOOD, _BAD = frozenset({"better"}), frozenset({"worse"})


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """The section of the page about the differences."""
    return {
        "comparison": comparison,
        "differences": [difference_values(one) for one in comparison.metrics],
        "forest_charts": _forest_charts(comparison.metrics),
        "slice_differences": _slice_differences(comparison.metrics),
    }


def difference_values(one: MetricComparison) -> dict[str, Any]:
    """A metric of two runs, as text."""
    difference = one.difference
    interval = "–"
    if difference.low is not None and difference.high is not None:
        low, high = (format_signed(end, one.unit) for end in (difference.low, difference.high))
        interval = f"{low} … {high}"
    return {
        "metric": one.metric,
        "primary": one.primary,
        "base": format_value(one.base, one.unit),
        "new": format_value(one.new, one.unit),
        "change": format_signed(difference.value, one.unit),
        "interval": interval,
        "p": format_p(one.p),
        "wins": one.wins,
        "ties": one.ties,
        "losses": one.losses,
        "verdict": one.verdict,
        "reason": reason_texts(one.reason) if one.reason else (),
    }


def verdict_tone(verdict: str) -> str:
    """The color of a verdict: good, bad, or neither."""
    return "good" if verdict in _GOOD else "bad" if verdict in _BAD else ""


def _forest_charts(metrics: Sequence[MetricComparison]) -> list[str]:
    """The differences with their intervals: fractions on one axis, each other unit on its own."""
    compared = [one for one in metrics if one.difference.low is not None]
    fractions = [one for one in compared if one.unit == "fraction"]
    others = [[one] for one in compared if one.unit != "fraction"]
    groups = [fractions, *others] if fractions else others
    return [
        interval_chart([_forest_interval(one) for one in group], TEXTS["forest"])
        for group in groups
    ]


def _forest_interval(one: MetricComparison) -> Interval:
    difference = one.difference
    value = float(difference.value or 0)
    return Interval(one.metric, value, difference.low, difference.high, verdict_tone(one.verdict))


def _slice_differences(metrics: Sequence[MetricComparison]) -> list[dict[str, Any]]:
    """The slices with the smallest p first."""
    found = [
        (one, part)
        for one in metrics
        for part in one.slices
        if part.change.wins or part.change.losses
    ]
    found.sort(
        key=lambda pair: 2.0 if pair[1].change.difference.p is None else pair[1].change.difference.p
    )
    return [
        {
            "metric": one.metric,
            "slice": part.slice,
            "n": part.change.n,
            "base": format_value(part.change.base, one.unit),
            "new": format_value(part.change.new, one.unit),
            "change": format_signed(part.change.difference.value, one.unit),
            "p": format_p(part.change.difference.p),
        }
        for one, part in found[:_MAX_SLICES]
    ]
