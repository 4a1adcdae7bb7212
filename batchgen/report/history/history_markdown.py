"""The history of jobs as Markdown, for pull requests and mails."""

from collections.abc import Iterator

from batchgen.report.exchange.markdown import escape_cell, metric_numbers, table_lines
from batchgen.report.history.job_history import JobHistory, RunDrift, RunHistory
from batchgen.report.history.run_changes import kinds_of
from batchgen.report.number_text import format_p, format_signed


def history_markdown(history: RunHistory) -> str:
    """For each job a table of each metric, and of drift; then the runs that are left out."""
    lines = [line for job in history.jobs for line in _job(job)]
    lines += [f"- left out: {escape_cell(f'{one.path}: {one.why}')}" for one in history.left_out]
    return "\n".join(lines).rstrip() + "\n"


def _job(job: JobHistory) -> Iterator[str]:
    yield f"### {escape_cell(job.job)}: {len(job.nights):,} runs"
    changes = {night.run.run_id: ", ".join(kinds_of(night.changes)) for night in job.nights}
    for trend in job.trends:
        yield from ("", f"**{escape_cell(trend.label)}**", "")
        heads = ["run", "started", "value", "interval", "n", "coverage", "change", "changed"]
        rows = (
            [
                escape_cell(point.run.name),
                point.run.started,
                *metric_numbers(point.row),
                "–" if point.change is None else format_signed(point.change, point.row.unit),
                changes[point.run.run_id],
            ]
            for point in trend.points
        )
        yield from table_lines(heads, rows)
    for drift in job.drifts[-1:]:
        yield ""
        yield from _drift(drift)
    yield ""


def _drift(drift: RunDrift) -> Iterator[str]:
    yield f"**Drift of {escape_cell(drift.new)} from {escape_cell(drift.base)}**"
    yield ""
    if drift.why:
        yield f"not measured: {escape_cell(drift.why)}"
        return
    rows = (
        [
            escape_cell(one.kind),
            f"**{escape_cell(format_p(one.p))}**" if one.is_drift else escape_cell(format_p(one.p)),
            "–" if one.test is None else f"{one.test.distance:.3f}",
            "–" if one.test is None else one.test.test,
            escape_cell(one.change),
        ]
        for one in drift.tests
    )
    yield from table_lines(["answers", "p (Holm)", "distance", "test", "change"], rows)
