"""`batchgen verify`: checks the files of a run."""

from dataclasses import asdict
from pathlib import Path

import click

from batchgen.cli.options import json_option, print_json

RUN = click.Path(path_type=Path)


@click.command()
@click.argument("run_folder", metavar="RUN", type=RUN)
@json_option
def verify(run_folder: Path, as_json: bool) -> int:
    """Check the files of a run for damage.

    Checks every hash, page and count in RUN, a folder or an address such as s3://BUCKET/PREFIX. Ends with 6 if something is
    damaged.
    """
    from batchgen.cli.render.terminal import format_count, printable
    from batchgen.errors import ExitCode
    from batchgen.inspection.verify import verify as verify_run
    from batchgen.state.bucket_run import fresh_copy
    from batchgen.state.open_folder import open_folder

    with fresh_copy(run_folder) as folder:
        report = verify_run(open_folder(folder), has_private=folder == run_folder)
    code = ExitCode.STATE if report.issues else ExitCode.DONE
    if as_json:
        findings = [asdict(issue) for issue in report.issues]
        print_json(
            code,
            state=report.state,
            checked=list(report.checked),
            unchecked=list(report.unchecked),
            findings=findings,
        )
        return int(code)
    for issue in report.issues:
        click.echo(printable(f"damaged  {issue.file} {issue.problem}"))
    for name in report.unchecked:
        click.echo(f"skipped  {name}: only the owner of the run may read it")
    if not report.issues:
        click.echo(f"ok       {report.state} · {format_count(len(report.checked), 'file')} checked")
    return int(code)
