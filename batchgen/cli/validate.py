"""`batchgen validate`: is this job file right? Under a second, nothing loaded."""

from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import JobOptions, job_options, json_option
from batchgen.cli.render.terminal import json_line


@click.command()
@job_options
@click.option(
    "--show",
    is_flag=True,
    help="Print the job as it would run, each value with where it came from.",
)
@json_option
def validate(show: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the shared options, made into JobOptions
    """Check a job file, its input's columns and its templates, without loading a model."""
    from batchgen.cli.options import load_from_options
    from batchgen.models.local_model import require_pin
    from batchgen.run.preflight.input_check import check_input

    loaded = load_from_options(JobOptions(**options))
    require_pin(loaded)
    reading = check_input(loaded)
    if show:
        click.echo(loaded.dump())
    if as_json:
        content = {"ok": True, "exit_code": 0, "job": loaded.job.name, "file": str(loaded.file)}
        click.echo(json_line(content))
        return
    click.echo(f"ok  {_short(loaded.file)}  {loaded.job.name}: {reading.source.describe()}")


def _short(file: Path) -> str:
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)
