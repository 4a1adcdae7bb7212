"""The sections of the page as plain values for the template: metrics, slices, health, judges."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.resolve_evaluation import read_recorded_metrics
from batchgen.evaluation.slices import slice_column
from batchgen.records import MetricRow
from batchgen.report.number_text import format_share, format_value
from batchgen.report.reported_run import ReportedRun
from batchgen.report.rows.answer_survey import AnswerSurvey

MAX_SLICES = 60
"""Rows of the table of slices."""
_SHADES = 4
"""Shades of the table of slices in each direction."""
_HEALTH_METRICS = ("repetition", "refusal", "language", "pii")
_BETTER_IS_HIGH = frozenset({"language"})
"""Metrics of health whose value is the share of sound answers."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A value of a slice; `shade` is 0 for the value over all, positive for better; `sure`: the interval excludes it."""

    text: str
    title: str
    shade: int
    sure: bool


@dataclass(frozen=True, slots=True)
class HeatTable:
    """The slices (rows) and the metrics (columns). `found` is the number of slices, of which the largest are shown."""

    metrics: Sequence[MetricRow]
    rows: Sequence[tuple[str, int, Sequence[HeatCell | None]]]
    found: int


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A sign of broken answers. `text` is a key of the page's texts; `count` is None if it was not measured."""

    text: str
    count: int | None
    total: int
    values: Mapping[str, str]
    interval: str = ""
    metric: str = ""

    @property
    def share(self) -> str:
        if self.count is None or not self.total:
            return ""
        return format_share(self.count / self.total)

    @property
    def severe(self) -> bool:
        return bool(self.count and self.count > 0.05 * self.total)


def heat_table(run: ReportedRun) -> HeatTable | None:
    """The metrics over each slice; None without slices."""
    cells: dict[str, dict[str, MetricRow]] = {}
    for row in run.rows:
        if row.slice != OVERALL:
            cells.setdefault(row.slice, {})[row.metric] = row
    if not cells:
        return None
    metrics = [row for row in run.overall if row.value is not None]
    sizes = {name: max(row.n for row in found.values()) for name, found in cells.items()}
    largest = sorted(cells, key=lambda name: -sizes[name])[:MAX_SLICES]
    spread = {one.metric: _spread(one, cells) for one in metrics}
    rows = [
        (
            name,
            sizes[name],
            [_heat_cell(cells[name].get(one.metric), one, spread[one.metric]) for one in metrics],
        )
        for name in sorted(largest, key=lambda name: _cut_number(run, name))
    ]
    return HeatTable(metrics, rows, len(cells))


def _cut_number(run: ReportedRun, name: str) -> int:
    """The number of the entry of `evaluate.slices` that a slice is of."""
    columns = [slice_column(cut) for cut in run.scored.slices]
    found = (n for n, column in enumerate(columns) if name.startswith(f"{column}="))
    return next(found, len(columns))


def _spread(overall: MetricRow, cells: Mapping[str, Mapping[str, MetricRow]]) -> float:
    """The largest difference of a slice from the value over all."""
    found = (one[overall.metric].value for one in cells.values() if overall.metric in one)
    return max((abs(v - (overall.value or 0)) for v in found if v is not None), default=0.0)


def _heat_cell(row: MetricRow | None, overall: MetricRow, spread: float) -> HeatCell | None:
    if row is None or row.value is None or overall.value is None:
        return None
    difference = row.value - overall.value
    sure = (row.ci_low is not None and row.ci_low > overall.value) or (
        row.ci_high is not None and row.ci_high < overall.value
    )
    shade = round(_SHADES * difference / spread) if spread else 0
    if overall.higher_is_better is None:
        shade = 0
    elif not overall.higher_is_better:
        shade = -shade
    return HeatCell(
        format_value(row.value, row.unit), f"{interval_text(row)} · n {row.n:,}", shade, sure
    )


def interval_text(row: MetricRow) -> str:
    """`0.61 to 0.72`, or a dash."""
    if row.ci_low is None or row.ci_high is None:
        return "–"
    return f"{format_value(row.ci_low, row.unit)} – {format_value(row.ci_high, row.unit)}"


def health_checks(run: ReportedRun, answers: AnswerSurvey) -> Iterator[HealthCheck]:
    """Counts of the answers themselves, then those that metrics of the run measured."""
    total = answers.rows
    for code, count in sorted(answers.errors.items(), key=lambda pair: -pair[1]):
        yield HealthCheck("error_code", count, total, {"code": code})
    yield HealthCheck("empty", answers.empty, total, {})
    if answers.finish_reasons:
        yield HealthCheck("truncated", answers.cut, total, {})
    yield HealthCheck("repeated", answers.repeated, total, {})
    overall = {row.metric: row for row in run.overall}
    for kind in _HEALTH_METRICS:
        names = [n for n in read_recorded_metrics(run.scored.facts, of=kind) if n in overall]
        for name in names:
            yield _measured(kind, overall[name])
        if not names:
            yield HealthCheck(kind, None, total, {}, metric=_example(kind))


def _measured(kind: str, row: MetricRow) -> HealthCheck:
    value, low, high = row.value or 0.0, row.ci_low, row.ci_high
    if kind in _BETTER_IS_HIGH:
        value = 1 - value
        low, high = (None if high is None else 1 - high), (None if low is None else 1 - low)
    interval = "" if low is None or high is None else f"{format_share(low)} – {format_share(high)}"
    return HealthCheck(kind, round(value * row.n), row.n, {}, interval, row.metric)


def _example(kind: str) -> str:
    return "'{type: language, expect: en}'" if kind == "language" else kind


@dataclass(frozen=True, slots=True)
class JudgeSection:
    """A judge: its options as recorded, and its numbers."""

    name: str
    model: str
    rows: Sequence[MetricRow]


def judge_sections(run: ReportedRun) -> list[JudgeSection]:
    """The judges of the run."""
    recorded: Mapping[str, Mapping[str, Any]] = run.scored.facts.get("evaluate", {}).get(
        "judges", {}
    )
    sections = []
    for name, options in recorded.items():
        rows = [r for r in run.overall if r.metric == name or r.metric.startswith(f"{name}_")]
        model = options.get("model")
        path = model.get("path") if isinstance(model, Mapping) else model
        sections.append(JudgeSection(name, str(path or ""), rows))
    return sections
