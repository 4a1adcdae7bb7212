"""`batchgen runs`: a line for each run below a folder."""

from dataclasses import asdict
from pathlib import Path

import click

from batchgen.cli.options import json_option, print_json


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@json_option
def runs(folder: Path, as_json: bool) -> None:
    """List the runs below a folder, the newest first.

    Each line has the state of a run, its start, its saved answers, those that failed, and its folder.
    """
    from batchgen.cli.render.terminal import printable
    from batchgen.inspection.find_runs import find_runs
    from batchgen.inspection.status import RunStatus

    found = find_runs(folder)
    if as_json:
        entries = [
            {
                "output": str(run.folder.path),
                "state": run.state,
                "job": run.job,
                "run_id": run.run_id,
                "started_at": run.started_at,
                "expected_rows": run.expected_rows,
                "counts": asdict(run.counts),
            }
            if isinstance(run, RunStatus)
            else {"output": str(run.folder.path), "state": "unreadable", "why": run.why}
            for run in found
        ]
        print_json(runs=entries)
        return
    lines = [("state", "started", "answers", "failed", "folder")]
    for run in found:
        name = str(run.folder.path.relative_to(folder.absolute()))
        if isinstance(run, RunStatus):
            counts = run.counts
            answers = f"{counts.rows:,}"
            if counts.rows != run.expected_rows:
                answers += f" of {run.expected_rows:,}"
            started = run.started_at[:16].replace("T", " ")
            lines.append((run.state, started, answers, f"{counts.failed:,}", name))
        else:
            lines.append(("unreadable", "", "", "", f"{name}: {run.why}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for state, started, answers, failed, name in lines if found else ():
        head = f"{state:<{widths[0]}}  {started:<{widths[1]}}  {answers:>{widths[2]}}  "
        click.echo(printable(f"{head}{failed:>{widths[3]}}  {name}"))
    if not found:
        click.echo(f"no runs below {folder}", err=True)
