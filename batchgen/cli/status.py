"""`batchgen status` and `batchgen show`: looking at a run without running anything."""

from dataclasses import asdict
from pathlib import Path

import click

from batchgen.cli.options import json_option
from batchgen.cli.render.terminal import json_line

RUN = click.Path(path_type=Path)


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@json_option
def status(run_folder: Path, as_json: bool) -> None:
    """How far the run in folder RUN is, and which rows failed."""
    from batchgen.cli.render.terminal import format_count, printable
    from batchgen.inspection import status as inspect

    found = inspect.status(run_folder)
    if as_json:
        content = {
            "ok": True,
            "exit_code": 0,
            "state": found.state,
            "job": found.job,
            "run_id": found.run_id,
            "output": str(found.folder.path),
            "expected_rows": found.expected_rows,
            "counts": asdict(found.counts),
            "failed": [asdict(f) for f in found.failed],
            "withheld": list(found.withheld),
        }
        click.echo(json_line(content))
        return
    counts = found.counts
    share = counts.rows / found.expected_rows if found.expected_rows else 1.0
    click.echo(
        f"{printable(found.job)}  {found.state} · {counts.rows:,} of {format_count(found.expected_rows, 'row')} "
        f"({share:.0%}) · {counts.failed:,} failed · {counts.skipped:,} skipped · "
        f"{counts.output_tokens:,} new tokens"
    )
    click.echo(f"run      {found.run_id} · began {found.started_at}")
    for failure in found.failed:
        examples = printable(", ".join(failure.examples))
        click.echo(f"{failure.finish_reason:<8} {failure.count:,} {failure.code} · e.g. {examples}")
    for why in found.withheld:
        click.echo(f"why      withheld by {printable(why)}")
    if found.withheld:
        click.echo(f"staged   {found.folder.staged}")
        click.echo(
            "next     batchgen run: the same command decides again, --fresh makes new answers"
        )
    if found.state == "complete":
        click.echo(f"look     batchgen show {found.folder.path}")


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@click.option("--row", "row_id", metavar="ID", help="Only the answers of the row with this id.")
@click.option("--n", "most", type=click.IntRange(1), default=3, show_default=True, help="How many.")
@click.option("--failed", is_flag=True, help="Only rows without an answer.")
@json_option
def show(run_folder: Path, *, row_id: str | None, most: int, failed: bool, as_json: bool) -> None:
    """Print answers of the run in folder RUN."""
    import polars as pl

    from batchgen.cli.render.run_summary import show_answer
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
            hint="Ids are the input's id column, or row numbers from 0.",
        )
    if as_json:
        click.echo(json_line({"ok": True, "answers": [asdict(a) for a in found]}))
        return
    for answer in found:
        show_answer(answer, 10_000)
        click.echo()
