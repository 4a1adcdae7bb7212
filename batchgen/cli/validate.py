"""`batchgen validate`: checks a job file in under a second, without loading a model."""

from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import (
    JobOptions,
    job_options,
    json_option,
    next_command,
    print_json,
)
from batchgen.cli.render.terminal import printable

if TYPE_CHECKING:
    from batchgen.jobfile.matrix.load_matrix import LoadedMatrix


@click.command()
@job_options
@click.option("--show", is_flag=True, help="Print the resolved job, with the origin of each value.")
@json_option
def validate(show: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the values of job_options
    """Check a job file and its input without loading a model.

    Checks the keys, the columns that the job names, and the templates.
    """
    from batchgen.run.matrix.matrix_check import check_job_on_disk

    job = JobOptions(**options)
    if (matrix := job.load_matrix()) is not None:
        _validate_matrix(matrix, show=show, as_json=as_json)
        return
    loaded = job.load()
    checked = check_job_on_disk(loaded)
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


def _validate_matrix(matrix: "LoadedMatrix", *, show: bool, as_json: bool) -> None:
    from batchgen.run.matrix.matrix_check import check_combinations

    checked = check_combinations(matrix)
    warnings = list(dict.fromkeys(warning for one in checked for warning in one.warnings))
    for warning in warnings:
        click.echo(printable(warning), err=True)
    if show:
        for one in matrix.combinations:
            click.echo(one.loaded.dump())
    job = matrix.first
    if as_json:
        runs = [{"name": one.name, "settings": dict(one.settings)} for one in matrix.combinations]
        print_json(job=job.job.name, file=str(job.file), warnings=warnings, runs=runs)
        return
    for one in matrix.combinations:
        click.echo(f"run   {printable(one.name)} · {printable(one.title)}")
    source = checked[0].source.describe()
    runs_in_all = f"{len(matrix.combinations):,} runs"
    click.echo(f"ok    {job.file} · job {job.job.name} · {runs_in_all} · input {source}")
    click.echo(f"next  {printable(next_command('plan'))}")
