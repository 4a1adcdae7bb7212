"""`batchgen validate`: checks a job file in under a second, without loading a model."""

from typing import Any

import click

from batchgen.cli.options import (
    job_options,
    json_option,
    load_from_options,
    next_command,
    print_json,
)
from batchgen.cli.render.terminal import printable


@click.command()
@job_options
@click.option("--show", is_flag=True, help="Print the resolved job, with the origin of each value.")
@json_option
def validate(show: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the arguments of load_from_options
    """Check a job file and its input without loading a model.

    Checks the keys, the columns that the job names, and the templates.
    """
    from batchgen.models.local_adapter import check_adapters_on_disk
    from batchgen.models.local_model import require_pin
    from batchgen.run.preflight.context_check import check_answer_length_on_disk
    from batchgen.run.preflight.input_check import check_input
    from batchgen.run.preflight.weights_check import check_weights_on_disk

    loaded = load_from_options(**options)
    require_pin(loaded)
    checked = check_input(loaded)
    check_answer_length_on_disk(loaded)
    check_weights_on_disk(loaded)
    check_adapters_on_disk(loaded)
    for warning in checked.warnings:
        click.echo(printable(warning), err=True)
    if show:
        click.echo(loaded.dump())
    if as_json:
        print_json(job=loaded.job.name, file=str(loaded.file), warnings=list(checked.warnings))
        return
    file, source = options["job"], checked.source.describe()
    click.echo(f"ok    {file} · job {loaded.job.name} · input {source}")
    click.echo(f"next  {printable(next_command('plan'))}")
