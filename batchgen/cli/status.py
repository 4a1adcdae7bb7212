"""`batchgen status` and `batchgen show`: the progress of a run, and its answers."""

from dataclasses import asdict
from pathlib import Path

import click

from batchgen.cli.options import json_option, print_json

RUN = click.Path(path_type=Path)


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@json_option
def status(run_folder: Path, as_json: bool) -> None:
    """Show the progress of a run and its failed rows.

    RUN is the output folder of the run.
    """
    from batchgen.cli.render.terminal import format_count, printable
    from batchgen.inspection import status as inspect

    progress = inspect.status(run_folder)
    if as_json:
        print_json(
            state=progress.state,
            job=progress.job,
            run_id=progress.run_id,
            output=str(progress.folder.path),
            expected_rows=progress.expected_rows,
            counts=asdict(progress.counts),
            failed=[asdict(f) for f in progress.failed],
            withheld=list(progress.withheld),
        )
        return
    counts = progress.counts
    share = counts.rows / progress.expected_rows if progress.expected_rows else 1.0
    click.echo(
        f"{printable(progress.job)}  {progress.state} · {counts.rows:,} of {format_count(progress.expected_rows, 'row')} "
        f"({share:.0%}) · {counts.failed:,} failed · {counts.skipped:,} skipped · "
        f"{counts.output_tokens:,} new tokens"
    )
    click.echo(f"run      {progress.run_id} · started {progress.started_at}")
    for failure in progress.failed:
        examples = printable(", ".join(failure.examples))
        click.echo(f"{failure.finish_reason:<8} {failure.count:,} {failure.code} · e.g. {examples}")
    for why in progress.withheld:
        click.echo(f"why      withheld by {printable(why)}")
    if progress.withheld:
        click.echo(f"staged   {progress.folder.staged}")
    failed = " --failed" if progress.failed else ""
    next_step = {
        "complete": f"batchgen show {progress.folder.path}{failed}",
        "incomplete": progress.how_to_complete,
        "withheld": progress.how_to_complete,
        "running": "",
    }[progress.state]
    if next_step:
        click.echo(f"next     {next_step[0].lower()}{next_step[1:].removesuffix('.')}")


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@click.option("--row", "row_id", metavar="ID", help="Show only the row with this id.")
@click.option("--n", type=click.IntRange(1), default=3, show_default=True, help="Answers to print.")
@click.option("--failed", is_flag=True, help="Show only rows without an answer.")
@json_option
def show(run_folder: Path, *, row_id: str | None, n: int, failed: bool, as_json: bool) -> None:
    """Print answers of a run.

    RUN is the output folder of the run.
    """
    import polars as pl

    from batchgen.cli.render.run_summary import print_answer
    from batchgen.errors import UsageError
    from batchgen.inspection import status as inspect
    from batchgen.state.run_folder import open_folder

    where = pl.lit(value=True) if row_id is None else pl.col("id") == row_id
    if failed:
        where &= pl.col("error_code").is_not_null()
    answers = inspect.find_answers(open_folder(run_folder), where, n)
    if row_id is not None and not answers and not failed:
        raise UsageError(
            f"{run_folder} has no row with the id {row_id!r}",
            hint="Give a value of the input's id column, or a row number from 0 if it has none.",
        )
    if as_json:
        print_json(answers=[asdict(a) for a in answers])
        return
    for answer in answers:
        print_answer(answer, 10_000)
        click.echo()
    if not answers:
        click.echo("no such rows", err=True)
