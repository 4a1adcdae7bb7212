"""`batchgen status`: the progress of a run."""

import shlex
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.cli.options import GIVEN_RUN, RunPath, json_option, print_json

if TYPE_CHECKING:
    from batchgen.inspection.matrix_status import MatrixStatus
    from batchgen.inspection.status import RunStatus

RUN = RunPath(path_type=Path)


def _print_shards(progress: "RunStatus") -> None:
    """Which parts are missing, and the processes that make them; nothing of a run without shards."""
    if not progress.shards:
        return
    from batchgen.cli.render.terminal import printable
    from batchgen.state.shards.shard import short_ranges

    sealed = progress.parts - len(progress.missing_parts)
    missing = f" · missing {short_ranges(progress.missing_parts)}" if progress.missing_parts else ""
    click.echo(f"parts    {sealed:,} of {progress.parts:,} sealed{missing}")
    for shard in progress.shards:
        state = "running" if shard.is_alive else "ended" if shard.has_ended else "not seen running"
        made = f"{shard.content.get('parts', 0):,} parts"
        click.echo(f"shard    {printable(str(shard))} {state} · {made}")


def _print_matrix(matrix: "MatrixStatus", *, as_json: bool) -> None:
    from batchgen.cli.render.terminal import display_width, fit_width, format_count, printable

    if as_json:
        runs = [
            {
                "name": one.combination.name,
                "settings": dict(one.combination.settings),
                "state": one.state,
                "why": one.why,
                "run_id": one.progress.run_id if one.progress else None,
                "expected_rows": one.progress.expected_rows if one.progress else None,
                "counts": asdict(one.progress.counts) if one.progress else None,
            }
            for one in matrix.runs
        ]
        print_json(job=matrix.job, output=str(matrix.folder), runs=runs)
        return
    complete = sum(one.state == "complete" for one in matrix.runs)
    of_all = f"{complete:,} of {format_count(len(matrix.runs), 'run')} complete"
    click.echo(f"{printable(matrix.job)}  {of_all} in {printable(str(matrix.folder))}")
    width = max(display_width(one.combination.name) for one in matrix.runs)
    for one in matrix.runs:
        progress, saved = one.progress, one.why
        if progress is not None:
            counts = progress.counts
            answers = format_count(progress.expected_rows, "answer")
            saved = f"{counts.rows:,} of {answers} · {counts.failed:,} failed"
        name = fit_width(one.combination.name, width)
        click.echo(printable(f"{one.state:<11}{name}  {saved}".rstrip()))
    if complete < len(matrix.runs):
        click.echo("next     repeat the same command to continue")


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@json_option
def status(run_folder: Path, as_json: bool) -> None:
    """Show the progress of a run and its failed rows.

    RUN is the output folder of the run, or that of a matrix of runs, or the address of a published run such as
    s3://BUCKET/PREFIX.
    """
    from batchgen.cli.render.terminal import format_answers, printable
    from batchgen.inspection import status as inspect
    from batchgen.inspection.matrix_status import matrix_status
    from batchgen.run.stop_signals import FAILURES_BEFORE_STOP

    if (matrix := matrix_status(run_folder)) is not None:
        _print_matrix(matrix, as_json=as_json)
        return
    progress = inspect.status(run_folder)
    if as_json:
        print_json(
            state=progress.state,
            job=progress.job,
            run_id=progress.run_id,
            output=str(progress.folder.path),
            expected_rows=progress.expected_rows,
            samples=progress.samples,
            counts=asdict(progress.counts),
            failed=[asdict(f) for f in progress.failed],
            withheld=list(progress.withheld),
            parts=progress.parts,
            missing_parts=list(progress.missing_parts),
            shards=[
                {**one.content, "name": one.name, "running": one.is_alive}
                for one in progress.shards
            ],
        )
        return
    counts = progress.counts
    share = counts.rows / progress.expected_rows if progress.expected_rows else 1.0
    click.echo(
        f"{printable(progress.job)}  {progress.state} · {counts.rows:,} of {format_answers(progress.expected_rows, progress.samples)} "
        f"({share:.0%}) · {counts.failed:,} failed · {counts.skipped:,} skipped · "
        f"{counts.output_tokens:,} new tokens"
    )
    started = datetime.fromisoformat(progress.started_at).isoformat(timespec="seconds")
    click.echo(f"run      {progress.run_id} · started {started}")
    _print_shards(progress)
    for failure in progress.failed:
        examples = printable(", ".join(failure.examples))
        click.echo(f"{failure.finish_reason:<8} {failure.count:,} {failure.code} · e.g. {examples}")
    for why in progress.withheld:
        click.echo(f"why      withheld by {printable(why)}")
    if progress.withheld:
        click.echo(f"staged   {progress.folder.staged}")
    failed = " --failed" if progress.failed else ""
    run = click.get_current_context().meta.get(GIVEN_RUN, str(progress.folder.path))
    next_step = {
        "complete": f"batchgen show {shlex.quote(run)}{failed}",
        "incomplete": progress.how_to_complete,
        "withheld": progress.how_to_complete,
        "running": "",
    }[progress.state]
    if next_step:
        click.echo(f"next     {next_step[0].lower()}{next_step[1:].removesuffix('.')}")
    if progress.state == "incomplete" and counts.failed >= FAILURES_BEFORE_STOP:
        click.echo("         add --retry-errors to generate the failed rows again")
