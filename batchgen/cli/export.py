"""`batchgen export`: writes answers as CSV, XLSX, JSON Lines or Markdown."""

from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import RunPath, json_option, print_json


@click.command()
@click.argument("path", metavar="RUN|FILE", type=RunPath(path_type=Path))
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write: its suffix .csv, .xlsx, .jsonl or .md decides the format.",
)
@click.option("--columns", metavar="A,B", default="", help="Columns to write. Default: all.")
@click.option("-n", "--n", "most", type=click.IntRange(1), metavar="N", help="At most N rows.")
@click.option("--where", metavar="SQL", default="", help='A condition, such as "score_exact = 0".')
@click.option("--sort", metavar="COLUMN", default="", help="Order by a column, lowest first.")
@click.option("--descending", is_flag=True, help="With --sort: highest first.")
@json_option
def export(
    path: Path,
    *,
    target: Path,
    columns: str,
    as_json: bool,
    **conditions: Any,  # noqa: ANN401  # fields of RowSelection
) -> None:
    """Write answers as a table for people or other programs.

    RUN is the output folder of a run or of `batchgen score`; FILE is a Parquet file. Spreadsheet programs open .csv and .xlsx,
    Chinese included. In .xlsx a text that begins with = stays text; in .csv, where a spreadsheet program would run it as a
    formula, an apostrophe is put before it.
    """
    from batchgen.cli.render.terminal import format_count
    from batchgen.inspection.answer_table import RowSelection, open_answer_table
    from batchgen.inspection.export import CELL_CHARACTERS
    from batchgen.inspection.export import export as write_export

    names = [name.strip() for name in columns.split(",") if name.strip()]
    table = open_answer_table(path)
    count = write_export(table, RowSelection(**conditions), target, names)
    if as_json:
        written = {"output": str(target.absolute()), "rows": count.rows}
        print_json(**written, cut_cells=count.cut, quoted_cells=count.quoted)
        return
    if table.unfinished:
        click.echo(f"{table.unfinished}: these are the answers so far", err=True)
    if count.cut:
        cells = format_count(count.cut, "cell")
        click.echo(
            f"{cells} cut to {CELL_CHARACTERS:,} characters, the limit of .xlsx; .csv has no limit",
            err=True,
        )
    if count.quoted:
        cells = format_count(count.quoted, "cell")
        click.echo(
            f"{cells} resembled formulas and now begin with an apostrophe; .xlsx and .jsonl have the same texts unchanged",
            err=True,
        )
    click.echo(f"wrote  {format_count(count.rows, 'row')} to {target}", err=True)
