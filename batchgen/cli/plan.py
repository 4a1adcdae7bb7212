"""`batchgen plan`: previews a run on one screen."""

from typing import Any

import click

from batchgen.cli.options import JobOptions, console_reporter, job_options, json_option
from batchgen.cli.render.terminal import json_line, printable


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
@json_option
def plan(prompts: int, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the fields of JobOptions
    """Preview a run without loading weights.

    Shows settings, token counts, batches, memory and the first prompts.
    """
    from batchgen.cli.options import load_from_options
    from batchgen.cli.render.plan import lines, summary
    from batchgen.run.plan import plan as make_plan

    made = make_plan(
        load_from_options(JobOptions(**options)),
        prompts=prompts,
        reporter=console_reporter(),
    )
    if as_json:
        click.echo(json_line(summary(made)))
        return
    for line in lines(made):
        click.echo(printable(line))
    for number, prompt in enumerate(made.prompts, start=1):
        head = f"prompt {number} of {len(made.prompts)} · id {printable(prompt.id)} · {prompt.tokens:,} tokens "
        click.echo(f"\n{head}{'─' * max(4, 72 - len(head))}\n{printable(prompt.text)}")
    click.echo(f"{'─' * 72}\nNext: batchgen run {made.setup.loaded.file}")
