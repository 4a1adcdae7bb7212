"""Charts over time: a metric with the band of its interval, and the answers that changed from run to run."""

from collections.abc import Mapping, Sequence
from typing import Any

from batchgen.report.charts.chart_colors import ACCENT, BAD, BAND, GOOD, GRID, INK, MUTED
from batchgen.report.charts.chart_packages import require_chart_package
from batchgen.report.charts.draw_charts import draw_svg
from batchgen.report.history.job_history import Night
from batchgen.report.history.trends import Trend, TrendPoint
from batchgen.report.page_text import chart_label

_WIDTH = 900
_HEIGHT = 150
_FLIPS_HEIGHT = 70
_MOST_LABELS = 14


def trend_chart(trend: Trend, places: Mapping[str, int], marks: Mapping[str, str]) -> str:
    """The chart of a metric: `places` are the numbers of runs by id, from 1; `marks` the signs of what changed, by id."""
    alt = require_chart_package("altair")
    rows = [_row(point, places) for point in trend.points if point.row.value is not None]
    if not rows:
        return ""
    x = _axis(alt, len(places))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4))
    base = alt.Chart(alt.Data(values=rows)).encode(x=x)
    low, high = alt.Y("low:Q", title=None), alt.Y2("high:Q")
    segments = alt.Detail("segment:N")
    signs = [{"run": places[run], "text": text} for run, text in marks.items() if text]
    changed = alt.Chart(alt.Data(values=signs)).encode(x=x)
    layers = [
        changed.mark_rule(color=GRID, strokeWidth=1),
        base.mark_area(color=BAND).encode(y=low, y2=high, detail=segments),
        base.mark_rule(color=ACCENT, strokeWidth=1).encode(y=low, y2=high),
        base.mark_line(color=ACCENT, strokeWidth=2).encode(y=y, detail=segments),
        base.mark_point(filled=True, size=40, opacity=1, color=ACCENT).encode(y=y),
        changed.mark_text(color=MUTED, fontSize=12, baseline="bottom").encode(
            y=alt.value(-4), text="text:N"
        ),
    ]
    label = chart_label("chart_trend", metric=trend.label, runs=str(len(rows)))
    return draw_svg(alt.layer(*layers), label, width=_WIDTH, height=_HEIGHT)


def _row(point: TrendPoint, places: Mapping[str, int]) -> dict[str, Any]:
    row, value = point.row, float(point.row.value or 0)
    return {
        "run": places[point.run.run_id],
        "value": value,
        "low": value if row.ci_low is None else row.ci_low,
        "high": value if row.ci_high is None else row.ci_high,
        "segment": point.segment,
    }


def flips_chart(metric: str, nights: Sequence[Night]) -> str:
    """Answers that became better (up) and worse (down), by run; empty if no two runs have the same prompts."""
    alt = require_chart_package("altair")
    rows = []
    for number, night in enumerate(nights, 1):
        for one in night.flips:
            if one.metric == metric:
                rows += [
                    {"run": number, "count": one.wins, "tone": "good"},
                    {"run": number, "count": -one.losses, "tone": "bad"},
                ]
    if not rows:
        return ""
    color = alt.Color(
        "tone:N", scale=alt.Scale(domain=["good", "bad"], range=[GOOD, BAD]), legend=None
    )
    bars = alt.Chart(alt.Data(values=rows)).mark_bar(size=10)
    y = alt.Y("count:Q", title=None, stack=None, axis=alt.Axis(tickCount=3, format="~s"))
    drawn = bars.encode(x=_axis(alt, len(nights)), y=y, color=color)
    zero = alt.Chart(alt.Data(values=[{"count": 0}])).mark_rule(color=INK, strokeWidth=1)
    layers = alt.layer(drawn, zero.encode(y="count:Q"))
    label = chart_label("chart_flips", metric=metric)
    return draw_svg(layers, label, width=_WIDTH, height=_FLIPS_HEIGHT)


def _axis(alt: Any, runs: int) -> Any:  # noqa: ANN401  # of Altair
    """Runs by their number, oldest left."""
    every = max(1, -(-runs // _MOST_LABELS))
    axis = alt.Axis(values=list(range(1, runs + 1, every)), grid=False, format="d")
    scale = alt.Scale(domain=[0.5, runs + 0.5], nice=False)
    return alt.X("run:Q", title=None, scale=scale, axis=axis)
