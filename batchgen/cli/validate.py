"""`batchgen validate`: checks a job file in under a second, without loading a model."""

from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import JobOptions, job_options, json_option, print_json


@click.command()
@job_options
@click.option(
    "--show",
    is_flag=True,
    help="Print the resolved job, with the origin of each value.",
)
@json_option
def validate(show: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the fields of JobOptions
    """Check a job file and its input without loading a model.

    Checks the keys, the columns that the job names, and the templates.
    """
    from batchgen.cli.options import load_from_options
    from batchgen.models.local_model import require_pin
    from batchgen.run.preflight.input_check import check_input

    loaded = load_from_options(JobOptions(**options))
    require_pin(loaded)
    reading = check_input(loaded)
    if show:
        click.echo(loaded.dump())
    if as_json:
        print_json(job=loaded.job.name, file=str(loaded.file))
        return
    here = Path.cwd()
    file = loaded.file.relative_to(here) if loaded.file.is_relative_to(here) else loaded.file
    click.echo(f"ok  {file}  {loaded.job.name}: {reading.source.describe()}")
