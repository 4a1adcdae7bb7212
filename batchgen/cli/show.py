"""`batchgen show`: prints answers."""

from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import RunPath, json_option, print_json

_CHARACTERS = 10_000
"""Of each text."""


@click.command()
@click.argument("path", metavar="RUN|FILE", type=RunPath(path_type=Path))
@click.option(
    "-n",
    "--n",
    "most",
    type=click.IntRange(1),
    metavar="N",
    help="Rows to print. Default: 3, of --row all.",
)
@click.option("--row", "row_id", metavar="ID", help="The row with this id, or all its turns.")
@click.option("--failed", is_flag=True, help="Show only rows without an answer.")
@click.option(
    "--where",
    metavar="SQL",
    default="",
    help="A condition, such as \"score_exact = 0 AND lang = 'zh'\".",
)
@click.option("--sort", metavar="COLUMN", default="", help="Order by a column, lowest first.")
@click.option("--descending", is_flag=True, help="With --sort: highest first.")
@click.option("--random", is_flag=True, help="Choose the rows at random.")
@json_option
def show(
    path: Path,
    *,
    most: int | None,
    as_json: bool,
    **conditions: Any,  # noqa: ANN401  # the other fields of RowSelection
) -> None:
    """Print answers with their scores.

    RUN is the output folder of a run, which may be unfinished, or of `batchgen score`; FILE is a Parquet file.
    """
    from batchgen.arrow.values import json_value
    from batchgen.cli.render.answer_view import print_row
    from batchgen.errors import UsageError
    from batchgen.inspection.answer_table import RowSelection, open_answer_table

    selection = RowSelection(most=most or (None if conditions["row_id"] else 3), **conditions)
    if selection.descending and not selection.sort:
        raise UsageError("--descending requires --sort", hint="Add --sort COLUMN.")
    table = open_answer_table(path)
    rows = table.take(table.select(selection))
    if selection.is_one_row and not rows:
        raise UsageError(
            f"{path} has no row with the id {selection.row_id!r}",
            hint="Give a value of the input's id column, or a row number from 0 if it has none.",
        )
    if as_json:
        print_json(unfinished=table.unfinished, answers=[json_value(row) for row in rows])
        return
    if table.unfinished:
        click.echo(f"{table.unfinished}: these are the answers so far", err=True)
    for row in rows:
        print_row(table, row, _CHARACTERS)
        click.echo()
    if not rows:
        click.echo("no such rows", err=True)
