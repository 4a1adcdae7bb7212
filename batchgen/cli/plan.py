"""`batchgen plan`: previews a run on one screen."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import (
    JobOptions,
    console_reporter,
    incremental_option,
    job_options,
    json_option,
    next_command,
    print_json,
)
from batchgen.cli.render.terminal import format_count, json_line, printable, wrapped_line
from batchgen.errors import UsageError

if TYPE_CHECKING:
    from batchgen.jobfile.matrix.load_matrix import LoadedMatrix
    from batchgen.progress import Reporter
    from batchgen.run.plan import Plan


@click.command()
@job_options
@click.option(
    "--prompts",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="N",
    help="Show the first N prompts exactly as the model receives them.",
)
@click.option("--measure", is_flag=True, help="Estimate the time from 16 generated rows.")
@incremental_option
@json_option
def plan(
    prompts: int,
    incremental_from: Path | None,
    *,
    measure: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # the values of job_options
) -> None:
    """Preview a run without loading weights.

    Shows settings, token counts, batches, memory, the first prompts, and the time: as earlier runs on this machine predict it, or, with --measure, rows that are generated now.
    """
    from batchgen.cli.render.plan import lines, summary
    from batchgen.run.plan import plan as make_plan

    with console_reporter() as reporter:
        job = JobOptions(**options)
        if (matrix := job.load_matrix(reporter)) is not None:
            if measure:
                raise UsageError(
                    "--measure times one job, not a matrix", hint="Leave --measure out."
                )
            _plan_matrix(matrix, prompts, incremental_from, reporter, as_json=as_json)
            return
        loaded = job.load(reporter)
        reporter.begin("reading the input")
        made = make_plan(
            loaded,
            prompts=prompts,
            incremental_from=incremental_from,
            measure=measure,
            reporter=reporter,
        )
    if as_json:
        click.echo(json_line(summary(made)))
        return
    for line in lines(made):
        click.echo(wrapped_line(printable(line), indent=10))
    _print_prompts(made)
    if not made.output.refusal:
        click.echo(f"{'─' * 72}\nNext: {printable(next_command('run'))}")


def _print_prompts(made: "Plan") -> None:
    for number, prompt in enumerate(made.prompts, start=1):
        size = "messages" if prompt.tokens is None else format_count(prompt.tokens, "token")
        head = f"prompt {number} of {len(made.prompts)} · id {printable(prompt.id)} · {size} "
        click.echo(f"\n{head}{'─' * max(4, 72 - len(head))}\n{printable(prompt.text)}")


def _plan_matrix(
    matrix: "LoadedMatrix",
    prompts: int,
    incremental_from: Path | None,
    reporter: "Reporter",
    *,
    as_json: bool,
) -> None:
    """The plan of the first run, and the rows and tokens of all."""
    from batchgen.cli.render.matrix_plan import matrix_plan_lines
    from batchgen.cli.render.plan import lines, summary
    from batchgen.run.matrix.matrix_plan import plan_matrix

    plans = plan_matrix(matrix, prompts, incremental_from, reporter)
    if as_json:
        runs = [
            {"name": one.name, "settings": dict(one.settings), **summary(made)}
            for one, made in zip(matrix.combinations, plans, strict=True)
        ]
        print_json(output=str(matrix.folder), runs=runs)
        return
    for line in (*lines(plans[0]), "", *matrix_plan_lines(matrix, plans)):
        click.echo(printable(line))
    for one, made in zip(matrix.combinations, plans, strict=True):
        if made.prompts:
            click.echo(f"\n{printable(one.title)}", nl=False)
        _print_prompts(made)
    if not any(made.output.refusal for made in plans):
        click.echo(f"{'─' * 72}\nNext: {printable(next_command('run'))}")
