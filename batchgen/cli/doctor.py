"""`batchgen doctor`: examines this machine, and a job on it."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import JOB, PROFILE, SET, json_option, load_from_options, print_json


@click.command()
@click.argument("job", type=JOB, required=False)
@SET
@PROFILE
@json_option
def doctor(job: Path | None, *, as_json: bool, **options: Any) -> int:  # noqa: ANN401  # the arguments of load_from_options
    """Check this machine, and whether JOB would run on it.

    Each line is ok, note or problem; the fix follows a problem. Connects to the model hub. Exit code 5 if a run would fail.
    """
    from batchgen.cli.render.terminal import printable, wrapped_line
    from batchgen.doctor.examine import examine
    from batchgen.errors import ExitCode

    load = None
    if job is not None:
        load = partial(load_from_options, job=job, limit=None, output=None, day=None, **options)
    findings = []
    for finding in examine(load):
        findings.append(finding)
        if not as_json:
            shown = f"{finding.status:<8}{finding.topic:<11}{printable(finding.text)}"
            click.echo(wrapped_line(shown, indent=19))
            if finding.fix:
                click.echo(wrapped_line(f"{'':<19}fix: {printable(finding.fix)}", indent=24))
    failed = any(finding.status == "problem" for finding in findings)
    code = ExitCode.ENVIRONMENT if failed else ExitCode.DONE
    if as_json:
        print_json(code, findings=[asdict(finding) for finding in findings])
    return int(code)
