"""`batchgen purge`: deletes the private state of a run, or of all old runs below a folder."""

import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.cli.options import json_option, print_json
from batchgen.cli.render.terminal import format_bytes, format_count, printable
from batchgen.errors import UsageError

if TYPE_CHECKING:
    from batchgen.inspection.purge import Purged


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Delete answers of unfinished runs without asking.")
@click.option(
    "--older-than",
    metavar="TIME",
    help="Purge every run in RUN and below it that nothing was written to for so long, such as 30d or 12h.",
)
@json_option
def purge(run_folder: Path, *, yes: bool, older_than: str | None, as_json: bool) -> None:
    """Delete a run's private state. Published answers stay.

    Deletes the journal, the parts and the settings in the folder RUN. An unfinished run can no longer be resumed:
    its saved answers are lost.
    """
    from batchgen.inspection.purge import purge as purge_run
    from batchgen.state.open_folder import open_folder

    def may_delete(answers: int) -> bool:
        if yes or not sys.stderr.isatty() or as_json:
            return yes
        lost = format_count(answers, "saved answer")
        return click.confirm(f"This deletes {lost}. Continue?", err=True)

    if older_than is not None:
        _purge_old(run_folder, _seconds(older_than), may_delete, as_json=as_json)
        return
    done = purge_run(open_folder(run_folder), may_delete)
    if as_json:
        print_json(**asdict(done))
        return
    for name in done.removed:
        click.echo(f"removed  {name}")
    click.echo(_summary(done) if done.removed else "nothing to delete")


def _seconds(time: str) -> int:
    from batchgen.section import DURATION_PATTERN, parse_duration

    if not re.match(DURATION_PATTERN, time):
        raise UsageError(
            f"--older-than {time}: expected a time", hint="Write days or hours, such as 30d or 12h."
        )
    return parse_duration(time)


def _purge_old(
    top: Path, seconds: int, may_delete: Callable[[int], bool], *, as_json: bool
) -> None:
    from batchgen.inspection.purge import Purged, purge_old_runs

    done = purge_old_runs(top, seconds, may_delete)
    if as_json:
        runs = [
            {"output": str(folder), **(asdict(one) if isinstance(one, Purged) else {"kept": one})}
            for folder, one in done.items()
        ]
        print_json(runs=runs)
        return
    freed = 0
    for folder, one in done.items():
        if isinstance(one, Purged):
            freed += one.bytes
            click.echo(printable(f"purged   {folder}: {_summary(one)}"))
        else:
            click.echo(printable(f"kept     {folder}: {one}"))
    click.echo(f"{format_bytes(freed)} freed")


def _summary(done: "Purged") -> str:
    lost = f" · {format_count(done.lost, 'answer')} lost" if done.lost else ""
    return f"{format_bytes(done.bytes)} in {format_count(len(done.removed), 'item')}{lost}"
