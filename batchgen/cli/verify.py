"""`batchgen verify` and `batchgen purge`: check a run folder, and remove its private state."""

from dataclasses import asdict
from pathlib import Path

import click

from batchgen.cli.options import json_option

RUN = click.Path(path_type=Path)


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@json_option
def verify(run_folder: Path, as_json: bool) -> int:
    """Check every hash, page and count of a run folder.

    Exits with 6 if a file is damaged.
    """
    from batchgen.cli.render.terminal import format_count, json_line, printable
    from batchgen.errors import ExitCode
    from batchgen.inspection.verify import verify as verify_run
    from batchgen.state.run_folder import open_folder

    found = verify_run(open_folder(run_folder))
    code = ExitCode.STATE if found.findings else ExitCode.DONE
    if as_json:
        content = {
            "ok": not found.findings,
            "exit_code": int(code),
            "state": found.state,
            "checked": list(found.checked),
            "findings": [asdict(finding) for finding in found.findings],
        }
        click.echo(json_line(content))
        return int(code)
    for finding in found.findings:
        click.echo(printable(f"damaged  {finding.file} {finding.problem}"))
    if not found.findings:
        click.echo(f"ok       {found.state} · {format_count(len(found.checked), 'file')} checked")
    return int(code)


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@click.option(
    "--yes", is_flag=True, help="Delete the answers of an unfinished run without confirmation."
)
@json_option
def purge(run_folder: Path, yes: bool, as_json: bool) -> None:
    """Remove the private state of a run; published answers stay.

    The private state is the journal, saved parts and caches. An unfinished run cannot be resumed afterwards: its saved
    answers are lost.
    """
    from batchgen.cli.options import terminal
    from batchgen.cli.render.terminal import format_bytes, format_count, json_line
    from batchgen.inspection.purge import purge as purge_run
    from batchgen.state.run_folder import open_folder

    def may_lose(answers: int) -> bool:
        if yes or terminal() is None or as_json:
            return yes
        return click.confirm(
            f"{format_count(answers, 'saved answer')} would be lost. Continue?", err=True
        )

    done = purge_run(open_folder(run_folder), may_lose)
    if as_json:
        content = {"ok": True, "exit_code": 0, **asdict(done)}
        click.echo(json_line(content))
        return
    for name in done.removed:
        click.echo(f"removed  {name}")
    lost = f" · {format_count(done.lost, 'answer')} lost" if done.lost else ""
    click.echo(f"{format_bytes(done.bytes)} in {format_count(len(done.removed), 'item')}{lost}")
