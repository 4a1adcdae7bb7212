"""`batchgen report`: one HTML file about a run."""

import webbrowser
from pathlib import Path

import click

from batchgen.cli.options import RunPath, json_option, print_json, print_written

FOLDER = RunPath(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("run", metavar="RUN", type=FOLDER)
@click.option(
    "--baseline",
    type=FOLDER,
    metavar="RUN2",
    help="Compare with this run: differences, and the answers that changed, side by side.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write to this file. Default: report.html in RUN.",
)
@click.option("--mask", "masked", is_flag=True, help="Mask personal data in the texts of rows.")
@click.option("--open", "opens", is_flag=True, help="Open the file in the browser.")
@json_option
def report(
    run: Path,
    *,
    baseline: Path | None,
    output: Path | None,
    masked: bool,
    opens: bool,
    as_json: bool,
) -> None:
    """Write one HTML file about a scored run.

    It shows the verdict of the gates, metrics with their intervals, slices, health, distributions, judges, the worst answers
    and the provenance. RUN is a run folder, or a folder that `batchgen score` wrote. The file loads nothing.
    """
    from batchgen.errors import UsageError
    from batchgen.report.write_report import write_report
    from batchgen.state.bucket_run import is_copy

    if output is None and is_copy(run):
        raise UsageError("no file given for the report", hint="Add --output FILE.")

    written = write_report(run, output, baseline=baseline, masked=masked)
    if opens and not webbrowser.open(written.as_uri()):
        click.echo("no browser was found to open the file in", err=True)
    if as_json:
        print_json(report=str(written), bytes=written.stat().st_size)
        return
    print_written(written)
