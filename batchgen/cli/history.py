"""`batchgen history`: all runs of a job over time."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchgen.cli.options import RunPath, json_option, print_json, print_written, write_summary

FOLDER = RunPath(path_type=Path)


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1, required=True, type=FOLDER)
@click.option(
    "-m",
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="Only this metric. Repeatable.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="SLICE",
    help="This slice, such as lang=zh, instead of all answers. Repeatable.",
)
@click.option(
    "--last", type=click.IntRange(1), metavar="N", help="Only the newest N runs of a job."
)
@click.option(
    "--baseline",
    type=RunPath(path_type=Path, exists=True, file_okay=False),
    metavar="RUN",
    help="Measure drift of the newest run from this one. Default: the run before.",
)
@click.option(
    "-o",
    "--output",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write an HTML page, which also compares the answers of each run with those of the run before.",
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the tables as Markdown, for pull requests and mails.",
)
@json_option
def history(  # noqa: PLR0913  # click passes each option by its name
    folders: Sequence[Path],
    *,
    metrics: Sequence[str],
    slices: Sequence[str],
    last: int | None,
    baseline: Path | None,
    page: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Show all runs of a job over time, and drift.

    FOLDER is a run folder, or a folder with run folders; runs of several jobs are shown by job. The metrics are read
    from the published files. A change of a metric's definition breaks its line: values before and after it are not compared. Drift:
    whether length, finish reason, refusal, language and duplicates of the newest run's answers differ by more than chance
    from those of the run before; each prompt counts once.
    """
    from batchgen.cli.render.history_lines import history_lines
    from batchgen.report.history.history_markdown import history_markdown
    from batchgen.report.history.job_history import HistoryOptions, open_history

    if page is not None:
        from batchgen.report.charts.chart_packages import check_chart_packages

        check_chart_packages()
    options = HistoryOptions(metrics, slices, last, baseline, every_night=page is not None)
    found = open_history(folders, options)
    if page is not None:
        from batchgen.report.history.write_history import write_history

        write_history(found, page)
        print_written(page)
    write_summary(markdown, lambda: history_markdown(found))
    if as_json:
        jobs = [job.plain() for job in found.jobs]
        print_json(jobs=jobs, left_out=[one.plain() for one in found.left_out])
        return
    for line in history_lines(found):
        click.echo(line)
