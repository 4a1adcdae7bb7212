"""The page about several runs, each compared with the first one."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from batchgen.evaluation.comparing.compare import Comparison, MetricComparison
from batchgen.evaluation.comparing.compare_several import run_names, run_numbers
from batchgen.report.charts.draw_charts import LONGEST_LABEL, Interval, interval_chart
from batchgen.report.differences import difference_values, verdict_tone
from batchgen.report.number_text import format_value
from batchgen.report.page import render_page
from batchgen.report.page_text import chart_label

_MAX_CHARTS = 12


def build_comparison(comparisons: Sequence[Comparison]) -> str:
    """The page: a table of metrics and runs, a chart of each metric, and what differs in the settings of each run."""
    metrics = list(
        dict.fromkeys(one.metric for comparison in comparisons for one in comparison.metrics)
    )
    names = run_names(comparisons)
    title = " · ".join([comparisons[0].base.name, *names])
    names = [
        number + name for number, name in zip(run_numbers(names, LONGEST_LABEL), names, strict=True)
    ]
    values = {
        "title": title,
        "version": version("batchgen-llm"),
        "comparisons": comparisons,
        "names": names,
        "base": comparisons[0].base,
        "table": [_row(name, comparisons) for name in metrics],
        "charts": list(_charts(metrics, dict(zip(names, comparisons, strict=True)))),
    }
    return render_page("comparisons.html.jinja", values, {"rows": [], "slices": [], "metrics": []})


def _row(name: str, comparisons: Sequence[Comparison]) -> Mapping[str, Any]:
    """A metric: its value in the base run, and its values in each run, None where it has none."""
    found = [_find(name, comparison) for comparison in comparisons]
    first = next(one for one in found if one is not None)
    return {
        "metric": name,
        "primary": first.primary,
        "higher": first.higher_is_better,
        "base": format_value(first.base, first.unit),
        "runs": [None if one is None else difference_values(one) for one in found],
    }


def _find(name: str, comparison: Comparison) -> MetricComparison | None:
    return next((one for one in comparison.metrics if one.metric == name), None)


def _charts(metrics: Sequence[str], runs: Mapping[str, Comparison]) -> Iterator[tuple[str, str]]:
    """The difference of each run from the first one, by metric; primary metrics first."""
    found = [
        [(name, one) for name, run in runs.items() if (one := _find(metric, run)) is not None]
        for metric in metrics
    ]
    for pairs in sorted(found, key=lambda pairs: not pairs[0][1].primary)[:_MAX_CHARTS]:
        intervals = [
            Interval(
                name,
                float(one.difference.value or 0),
                one.difference.low,
                one.difference.high,
                verdict_tone(one.verdict),
            )
            for name, one in pairs
            if one.difference.low is not None
        ]
        if intervals:
            metric = pairs[0][1].metric
            label = chart_label("chart_differences", metric=metric)
            yield metric, interval_chart(intervals, label)
