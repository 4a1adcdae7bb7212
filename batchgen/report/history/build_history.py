"""From the history of jobs to its page."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from batchgen.evaluation.drift.measure_drift import DRIFT_KINDS, Drift
from batchgen.job.evaluate import DriftKind
from batchgen.metrics.statistics.drift_tests import (
    CHI_SQUARE,
    EQUAL,
    FISHER,
    PERMUTATION,
    SMIRNOV,
    SMIRNOV_EXACT,
)
from batchgen.report.history.job_history import JobHistory, Night, RunHistory
from batchgen.report.history.run_changes import CHANGE_KINDS, ChangeKind, kinds_of
from batchgen.report.history.trend_chart import flips_chart, trend_chart
from batchgen.report.history.trends import Trend, TrendPoint
from batchgen.report.number_text import format_p, format_share, format_signed, format_value
from batchgen.report.page import render_page
from batchgen.report.page_text import TEXTS
from batchgen.report.sections import interval_text
from batchgen.report.translation.run_problems import problem_texts

MAX_CHARTS = 24
"""Metrics of a job that have a chart; the others are in the tables."""
_SIGNS = "①②③④⑤⑥⑦"
_TEST_KEYS = {
    EQUAL: "test_none",
    FISHER: "test_fisher",
    CHI_SQUARE: "test_chi_square",
    PERMUTATION: "test_permutation",
    SMIRNOV: "test_smirnov",
    SMIRNOV_EXACT: "test_smirnov_exact",
}
"""Keys of the page's texts by the names of tests."""
_VALUE_KEYS: Mapping[DriftKind, str] = {"finish_reason": "end_", "language": "script_"}
"""How the keys of the texts for the values of a trait start."""


def build_history(history: RunHistory) -> str:
    """The page: for each job its metrics over time, what changed, which answers flipped, and drift."""
    values = {
        "title": " · ".join(job.job for job in history.jobs),
        "version": version("batchgen-llm"),
        "jobs": [_job_values(job) for job in history.jobs],
        "left_out": history.left_out,
        "problem_texts": problem_texts,
        "change_texts": _change_texts,
        "signs": list(zip(_SIGNS, CHANGE_KINDS, strict=True)),
        "drift_kinds": DRIFT_KINDS,
        "test_keys": _TEST_KEYS,
        "value_keys": {kind: _value_keys(start) for kind, start in _VALUE_KEYS.items()},
        "format_p": format_p,
        "format_share": format_share,
    }
    return render_page("history.html.jinja", values, {"rows": [], "slices": [], "metrics": []})


def _value_keys(start: str) -> Mapping[str, str]:
    """The keys of the texts for the values of a trait, by value. Values without a text keep their names."""
    return {key.removeprefix(start): key for key in TEXTS if key.startswith(start)}


def _change_texts(drift: Drift) -> tuple[str, str]:
    """What of the answers changed, in English and Chinese, in one line."""
    if drift.why:
        return drift.change, TEXTS[f"drift_{drift.why.code}"][1]
    if drift.kind == "length":
        median = TEXTS["drift_median"][1]
        numbers = [(f"{v.before:,.4g}", f"{v.now:,.4g}") for v in drift.values]
        return drift.change, "，".join(median.format(before=old, now=new) for old, new in numbers)
    keys = _value_keys(_VALUE_KEYS[drift.kind]) if drift.kind in _VALUE_KEYS else {}
    names = {value: TEXTS[key][1] for value, key in keys.items()}
    if drift.kind == "refusal":
        names = {value.name: TEXTS["drift_refusal"][1] for value in drift.values}
    shares = [
        f"{names.get(v.name, v.name)} {format_share(v.before)} → {format_share(v.now)}".lstrip()
        for v in drift.values
    ]
    return drift.change, "，".join(shares)


def _job_values(job: JobHistory) -> Mapping[str, Any]:
    return {
        "name": job.job,
        "nights": job.nights,
        "marks": {night.run.run_id: _signs(kinds_of(night.changes)) for night in job.nights},
        "earlier": job.earlier,
        "trends": [_trend_values(trend, job.nights) for trend in job.trends],
        "charts": list(_charts(job)),
        "flips": list(_flips(job.nights)),
        "drifts": list(reversed(job.drifts)),
    }


def _signs(kinds: Sequence[ChangeKind]) -> str:
    return "".join(_SIGNS[CHANGE_KINDS.index(kind)] for kind in kinds)


def _marks(trend: Trend, nights: Sequence[Night]) -> dict[str, str]:
    """The signs of what changed, by the id of the run; that of the metric only where this one changed."""
    pairs = pairwise(trend.points)
    breaks = {now.run.run_id for before, now in pairs if before.segment != now.segment}
    found = {}
    for night in nights:
        run, kinds = night.run.run_id, kinds_of(night.changes)
        found[run] = _signs([kind for kind in kinds if kind != "metric" or run in breaks])
    return found


def _charts(job: JobHistory) -> Iterator[tuple[Trend, str]]:
    places = _places(job.nights)
    for trend in job.trends[:MAX_CHARTS]:
        if svg := trend_chart(trend, places, _marks(trend, job.nights)):
            yield trend, svg


def _places(nights: Sequence[Night]) -> Mapping[str, int]:
    return {night.run.run_id: number for number, night in enumerate(nights, 1)}


def _trend_values(trend: Trend, nights: Sequence[Night]) -> Mapping[str, Any]:
    """The newest run first."""
    places, marks = _places(nights), _marks(trend, nights)
    points = list(reversed(trend.points))
    older = [*points[1:], None]
    return {
        "trend": trend,
        "points": [
            {
                "number": places[point.run.run_id],
                "run": point.run,
                "value": format_value(point.row.value, point.row.unit),
                "interval": interval_text(point.row),
                "n": point.row.n,
                "coverage": point.row.coverage,
                "change": _change(point),
                "marks": marks[point.run.run_id],
                "breaks": before is not None and before.segment != point.segment,
            }
            for point, before in zip(points, older, strict=True)
        ],
    }


def _change(point: TrendPoint) -> str:
    return "–" if point.change is None else format_signed(point.change, point.row.unit)


def _flips(nights: Sequence[Night]) -> Iterator[tuple[str, str]]:
    """A chart for each metric whose answers changed between runs."""
    names = dict.fromkeys(one.metric for night in nights for one in night.flips)
    for name in list(names)[:MAX_CHARTS]:
        if svg := flips_chart(name, nights):
            yield name, svg
