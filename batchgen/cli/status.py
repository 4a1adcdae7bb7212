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

    found = inspect.status(run_folder)
    if as_json:
        print_json(
            state=found.state,
            job=found.job,
            run_id=found.run_id,
            output=str(found.folder.path),
            expected_rows=found.expected_rows,
            counts=asdict(found.counts),
            failed=[asdict(f) for f in found.failed],
            withheld=list(found.withheld),
        )
        return
    counts = found.counts
    share = counts.rows / found.expected_rows if found.expected_rows else 1.0
    click.echo(
        f"{printable(found.job)}  {found.state} · {counts.rows:,} of {format_count(found.expected_rows, 'row')} "
        f"({share:.0%}) · {counts.failed:,} failed · {counts.skipped:,} skipped · "
        f"{counts.output_tokens:,} new tokens"
    )
    click.echo(f"run      {found.run_id} · started {found.started_at}")
    for failure in found.failed:
        examples = printable(", ".join(failure.examples))
        click.echo(f"{failure.finish_reason:<8} {failure.count:,} {failure.code} · e.g. {examples}")
    for why in found.withheld:
        click.echo(f"why      withheld by {printable(why)}")
    if found.withheld:
        click.echo(f"staged   {found.folder.staged}")
    failed = " --failed" if found.failed else ""
    next_step = {
        "complete": f"batchgen show {found.folder.path}{failed}",
        "incomplete": "run the same command again to resume",
        "withheld": "run again to re-check the gates, or with --fresh to regenerate",
        "running": "",
    }[found.state]
    if next_step:
        click.echo(f"next     {next_step}")


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@click.option("--row", "row_id", metavar="ID", help="Show only the row with this id.")
@click.option(
    "--n", "most", type=click.IntRange(1), default=3, show_default=True, help="Number of answers."
)
@click.option("--failed", is_flag=True, help="Show only rows without an answer.")
@json_option
def show(run_folder: Path, *, row_id: str | None, most: int, failed: bool, as_json: bool) -> None:
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
    found = inspect.find_answers(open_folder(run_folder), where, most)
    if row_id is not None and not found:
        raise UsageError(
            f"{run_folder} has no row with the id {row_id!r}",
            hint="Give a value of the input's id column, or a row number from 0 if it has none.",
        )
    if as_json:
        print_json(answers=[asdict(a) for a in found])
        return
    for answer in found:
        print_answer(answer, 10_000)
        click.echo()
    if not found:
        click.echo("no such rows", err=True)
