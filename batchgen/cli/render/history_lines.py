"""The history of a job as tables for a terminal."""

from collections.abc import Iterator

from batchgen.cli.render.metric_table import format_value
from batchgen.cli.render.terminal import display_width, fit_width, format_count, printable
from batchgen.evaluation.drift.measure_drift import Drift
from batchgen.report.history.job_history import JobHistory, Night, RunDrift, RunHistory
from batchgen.report.history.run_changes import kinds_of
from batchgen.report.history.trends import Trend, TrendPoint
from batchgen.report.number_text import format_p, format_signed

_NAME_WIDTH = 32
_TIME_WIDTH = 20
"""Columns of the indent and the time of a run, with their gaps."""


def history_lines(history: RunHistory) -> Iterator[str]:
    """Each job with its runs, and the runs that are left out."""
    for number, job in enumerate(history.jobs):
        if number:
            yield ""
        yield from _job(job)
    if history.left_out:
        yield ""
    for one in history.left_out:
        yield f"left out: {printable(str(one.path))}: {printable(one.why)}"


def _job(job: JobHistory) -> Iterator[str]:
    earlier = f", {job.earlier:,} earlier ones are not shown" if job.earlier else ""
    yield f"{printable(job.job)}: {format_count(len(job.nights), 'run')}{earlier}"
    nights = {night.run.run_id: night for night in job.nights}
    names = [display_width(printable(night.run.name)) for night in job.nights]
    heads = [display_width(_head(trend)) - _TIME_WIDTH for trend in job.trends]
    width = min(_NAME_WIDTH, max(*names, *heads))
    for trend in job.trends:
        yield ""
        yield from _trend(trend, nights, width)
    for drift in job.drifts[-1:]:
        yield ""
        yield from _drift(drift)


def _trend(trend: Trend, nights: dict[str, Night], width: int) -> Iterator[str]:
    head = fit_width(_head(trend), width + _TIME_WIDTH)
    yield f"{head} {'value':>9}   {'interval':<20} {'n':>9} {'change':>9}"
    before = None
    for point in trend.points:
        is_other = before is not None and point.segment != before
        before = point.segment
        kinds = kinds_of(nights[point.run.run_id].changes)
        changed = ", ".join(kind for kind in kinds if is_other or kind != "metric")
        note = "another metric: not comparable with the runs before" if is_other else ""
        if changed:
            note = f"changed: {changed}" + (f"; {note}" if note else "")
        yield f"{_point(point, width)}  {note}".rstrip()


def _head(trend: Trend) -> str:
    higher = trend.newest.higher_is_better
    better = "" if higher is None else " (higher is better)" if higher else " (lower is better)"
    return printable(trend.label) + better


def _point(point: TrendPoint, width: int) -> str:
    row = point.row
    interval = "-"
    if row.ci_low is not None and row.ci_high is not None:
        interval = f"{format_value(row.ci_low, row.unit)} to {format_value(row.ci_high, row.unit)}"
    change = "" if point.change is None else format_signed(point.change, row.unit)
    name = fit_width(printable(point.run.name), width)
    value = format_value(row.value, row.unit)
    return f"  {name}  {point.run.started} {value:>9}   {interval:<20} {row.n:>9,} {change:>9}"


def _drift(drift: RunDrift) -> Iterator[str]:
    names = f"drift of {printable(drift.new)} from {printable(drift.base)}"
    if drift.why:
        yield f"{names}: not measured: {printable(drift.why)}"
        return
    tests = sum(one.test is not None for one in drift.tests)
    yield f"{names}; p is adjusted for {format_count(tests, 'test')} (Holm)"
    yield f"  {'':<14} {'p':>7} {'distance':>9}   {'test':<26} change"
    for one in drift.tests:
        yield _test(one).rstrip()


def _test(one: Drift) -> str:
    if one.test is None:
        return f"  {one.kind:<14} {'-':>7} {'-':>9}   {'none':<26} {one.change}"
    mark = "   DRIFT" if one.is_drift else ""
    numbers = f"{format_p(one.p):>7} {one.test.distance:>9.3f}   {one.test.test:<26}"
    return f"  {one.kind:<14} {numbers} {printable(one.change)}{mark}"
