"""The charts of the report: Altair describes them, vl-convert draws them as SVG, without a browser or a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchgen.metrics.statistics.intervals import Floats
from batchgen.report.charts.chart_colors import ACCENT, BAD, GOOD, GRID, INK, MUTED
from batchgen.report.charts.chart_packages import require_chart_package
from batchgen.report.charts.clean_svg import clean_svg
from batchgen.report.page_text import Pair
from batchgen.report.visible_text import visible

WIDTH = 340
_BINS = 30
LONGEST_LABEL = 34


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval, both in one unit. `tone`: good, bad, or neither."""

    label: str
    value: float
    low: float | None
    high: float | None
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram: one more edge than counts. `above` values are beyond the last edge."""

    edges: Sequence[float]
    counts: Sequence[int]
    above: int = 0


def interval_chart(
    intervals: Sequence[Interval], label: Pair, *, domain: tuple[float, float] | None = None
) -> str:
    """Points with their intervals, one under the other, on one axis; a line at zero if the axis crosses it."""
    alt = require_chart_package("altair")
    names = _labels([one.label for one in intervals])
    rows = [
        {
            "label": name,
            "value": one.value,
            "low": one.value if one.low is None else one.low,
            "high": one.value if one.high is None else one.high,
            "tone": one.tone,
        }
        for name, one in zip(names, intervals, strict=True)
    ]
    ends = [e for one in intervals for e in (one.value, one.low, one.high) if e is not None]
    least, most = domain or _domain(min(ends), max(ends))
    x = alt.X(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=[least, most], nice=False, clamp=True),
        axis=alt.Axis(tickCount=4, labelFlush=False, labelOverlap=True),
    )
    y = alt.Y("label:N", title=None, sort=names)
    color = alt.Color(
        "tone:N",
        scale=alt.Scale(domain=["", "good", "bad"], range=[ACCENT, GOOD, BAD]),
        legend=None,
    )
    base = alt.Chart(alt.Data(values=rows)).encode(y=y, color=color)
    layers = [
        base.mark_rule(strokeWidth=3)
        .encode(x=x, x2="high:Q")
        .transform_calculate(value="datum.low"),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=x),
    ]
    if least < 0 < most:
        zero = alt.Chart(alt.Data(values=[{"value": 0}])).mark_rule(color=MUTED, strokeDash=[4, 3])
        layers.insert(0, zero.encode(x=x))
    return draw_svg(alt.layer(*layers), label, step=24)


def histogram_chart(bins: Histogram, label: Pair) -> str:
    """Bars of a histogram."""
    alt = require_chart_package("altair")
    pairs = zip(bins.edges, bins.edges[1:], bins.counts, strict=False)
    rows = [{"low": low, "high": high, "count": count} for low, high, count in pairs]
    x = alt.X(
        "low:Q",
        title=None,
        scale=alt.Scale(domain=[bins.edges[0], bins.edges[-1]], nice=False),
        axis=alt.Axis(tickCount=5, grid=False),
    )
    y = alt.Y("count:Q", title=None, axis=alt.Axis(tickCount=3))
    bars = alt.Chart(alt.Data(values=rows)).mark_bar(color=ACCENT, binSpacing=0)
    return draw_svg(bars.encode(x=x, x2="high:Q", y=y, y2=alt.value(90)), label, height=90)


def bar_chart(counts: Sequence[tuple[str, int]], label: Pair) -> str:
    """Horizontal bars, one for each name, with their numbers."""
    alt = require_chart_package("altair")
    names = _labels([name for name, _ in counts])
    rows = [
        {"name": name, "count": count, "text": f"{count:,}"}
        for name, (_, count) in zip(names, counts, strict=True)
    ]
    most = max(count for _, count in counts)
    x = alt.X("count:Q", title=None, axis=None, scale=alt.Scale(domain=[0, most * 1.2]))
    base = alt.Chart(alt.Data(values=rows)).encode(y=alt.Y("name:N", title=None, sort=names), x=x)
    text = base.mark_text(align="left", dx=4, color=INK, fontSize=12).encode(text="text:N")
    return draw_svg(alt.layer(base.mark_bar(color=ACCENT), text), label, step=24)


def bin_values(values: Floats) -> Histogram:
    """Equal bins from the smallest value to the 99.5th percentile; of whole numbers, bins of whole numbers."""
    least, most = float(values.min()), float(np.quantile(values, 0.995))
    whole = bool((values == np.round(values)).all())
    if most <= least:
        most = least + 1
    if whole:
        width = max(1.0, float(np.ceil((most - least + 1) / _BINS)))
        edges = np.arange(least, most + width + 0.5, width)
    else:
        edges = np.linspace(least, most, _BINS + 1)
    counts, _ = np.histogram(values, edges)
    return Histogram(edges.tolist(), counts.tolist(), int((values > edges[-1]).sum()))


def _domain(least: float, most: float) -> tuple[float, float]:
    room = (most - least or abs(most) or 1.0) * 0.08
    return least - room, most + room


def _labels(texts: Sequence[str]) -> list[str]:
    """Labels that fit, each different: equal ones would be one row of a chart."""
    labels: list[str] = []
    for text in map(visible, texts):
        label = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
        while label in labels:
            label += "\u2009"
        labels.append(label)
    return labels


def draw_svg(
    chart: Any,  # noqa: ANN401  # one of Altair
    label: Pair,
    *,
    step: int = 0,
    width: int = WIDTH,
    height: int = 0,
) -> str:
    """Draw a chart with a `label` in each language; its height is that of each row, or of all."""
    axis = {
        "labelColor": INK,
        "labelFontSize": 12,
        "labelLimit": 240,
        "tickColor": GRID,
        "gridColor": GRID,
        "domainColor": GRID,
    }
    config = {
        "axis": axis,
        "view": {"stroke": None},
        "padding": {"left": 18, "right": 12, "top": 5, "bottom": 5},
    }
    sized = chart.properties(width=width, height={"step": step} if step else height)
    spec = sized.to_dict() | {"config": config, "background": None}
    drawn: str = require_chart_package("vl_convert").vegalite_to_svg(spec)
    return clean_svg(drawn, label)
