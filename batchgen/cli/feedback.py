"""`batchgen feedback`: what people say about answers, as statistics, scores and training data."""

from collections.abc import Sequence
from pathlib import Path

import click

from batchgen.cli.options import json_option, print_json

RUN = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def feedback() -> None:
    """Use the votes of people about answers."""


@feedback.command("import")
@click.argument("run", type=RUN)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--skip-changed",
    is_flag=True,
    help="Leave out votes about answers that have changed or are gone, and import the others.",
)
@json_option
def import_(run: Path, files: Sequence[Path], *, skip_changed: bool, as_json: bool) -> None:
    """Add the votes of ratings files to RUN.

    Exported review pages save such files. All files are imported, or none. Votes that RUN has already are counted, so that a file may be imported again.
    """
    from batchgen.cli.render.terminal import format_count
    from batchgen.feedback.import_votes import import_votes
    from batchgen.output.published_run import PublishedRun
    from batchgen.state.open_folder import open_folder

    done = import_votes(PublishedRun(open_folder(run)), files, skip_changed=skip_changed)
    if as_json:
        print_json(
            added=sum(done.added.values()),
            by_reviewer=done.added,
            repeated=done.repeated,
            left_out=done.left_out,
            notes=list(done.notes),
        )
        return
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    by = ", ".join(f"{name} {count:,}" for name, count in sorted(done.added.items()))
    click.echo(
        f"added     {format_count(sum(done.added.values()), 'vote')}{f': {by}' if by else ''}"
    )
    click.echo(f"repeated  {done.repeated:,} (already there)")
    if done.left_out:
        click.echo(f"left out  {done.left_out:,} about answers that have changed or are gone")


@feedback.command()
@click.argument("run", type=RUN)
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Also by the values of this column. Repeatable. Default: evaluate.slices of the job.",
)
@json_option
def stats(run: Path, *, by: Sequence[str], as_json: bool) -> None:
    """Count votes, and measure how far people agree.

    With each other, and with each judge and metric. kappa is Cohen's, alpha Krippendorff's; 1 is full agreement, 0 that of chance. Intervals are bootstrapped over prompts.
    A metric's range is mapped to that of the votes; metrics without a range are left out.
    """
    from batchgen.cli.render.vote_table import vote_lines
    from batchgen.evaluation.agreement.vote_statistics import as_json as to_json
    from batchgen.evaluation.agreement.vote_statistics import vote_statistics
    from batchgen.output.published_run import PublishedRun
    from batchgen.state.open_folder import open_folder

    found = vote_statistics(PublishedRun(open_folder(run)), by=by)
    if as_json:
        print_json(**to_json(found))
        return
    for note in found.votes.notes:
        click.echo(f"note: {note}", err=True)
    for line in vote_lines(found):
        click.echo(line)


@feedback.command()
@click.argument("run", type=RUN)
@click.option(
    "--votes",
    type=click.Choice(["rating", "pass", "label", "pair"]),
    help="Which votes. Default: those of the job's metric human, or ratings.",
)
@click.option("--label", metavar="LABEL", help="The label to count, with --votes label.")
@click.option("--rubric", metavar="NAME", help="Only ratings and passes by this rubric.")
@click.option("--name", metavar="NAME", help="Name of the metric. Default: human.")
@json_option
def join(run: Path, *, as_json: bool, **options: str | None) -> int:
    """Score RUN again, with the votes of people.

    Adds the columns score_human (mean) and score_human_raters next to the other scores. The answers stay as they are. The scores enter gates, compare and report. The same as `batchgen score RUN` with the
    metric human; judges are queried again only if their verdicts are not cached.
    """
    from batchgen.cli.options import console_reporter
    from batchgen.cli.render import metric_table
    from batchgen.evaluation.scoring.score import score
    from batchgen.jobfile.load import load_stored_job
    from batchgen.report.write_report import stage_report
    from batchgen.state.open_folder import open_folder

    given = {key: value for key, value in options.items() if value is not None}
    own = load_stored_job(open_folder(run).job).job.evaluate.metrics
    has_one = any(metric.type == "human" for metric in own)
    metrics = [{"type": "human", **given}] if given or not has_one else []
    with console_reporter() as reporter:
        done = score(run, metrics, reporter=reporter, add_report=stage_report)
    if as_json:
        scores = metric_table.score_summary(done.metrics, done.gates, done.folder.scores)
        print_json(done.exit_code, output=str(done.folder.path), **scores)
        return int(done.exit_code)
    for line in metric_table.metric_lines(done.metrics):
        click.echo(line)
    for line in (*metric_table.gate_lines(done.gates), f"wrote  {done.folder.path}"):
        click.echo(line, err=True)
    return int(done.exit_code)
