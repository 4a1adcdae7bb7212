"""`batchgen plan`: previews a run on one screen."""

from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import (
    console_reporter,
    incremental_option,
    job_options,
    json_option,
    load_from_options,
    next_command,
)
from batchgen.cli.render.terminal import format_count, json_line, printable


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
@incremental_option
@json_option
def plan(prompts: int, incremental_from: Path | None, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the arguments of load_from_options
    """Preview a run without loading weights.

    Shows settings, token counts, batches, memory and the first prompts.
    """
    from batchgen.cli.render.plan import lines, summary
    from batchgen.run.plan import plan as make_plan

    with console_reporter() as reporter:
        loaded = load_from_options(**options, reporter=reporter)
        reporter.begin("reading the input")
        made = make_plan(
            loaded, prompts=prompts, incremental_from=incremental_from, reporter=reporter
        )
    if as_json:
        click.echo(json_line(summary(made)))
        return
    for line in lines(made):
        click.echo(printable(line))
    for number, prompt in enumerate(made.prompts, start=1):
        size = "messages" if prompt.tokens is None else format_count(prompt.tokens, "token")
        head = f"prompt {number} of {len(made.prompts)} · id {printable(prompt.id)} · {size} "
        click.echo(f"\n{head}{'─' * max(4, 72 - len(head))}\n{printable(prompt.text)}")
    if not made.output.refusal:
        click.echo(f"{'─' * 72}\nNext: {printable(next_command('run'))}")
