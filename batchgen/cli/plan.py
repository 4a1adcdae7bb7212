"""`batchgen plan`: what a run would do, on one screen."""

from collections.abc import Iterator
from typing import Any

import click

from batchgen.cli.options import JobOptions, job_options, json_option, terminal
from batchgen.cli.render.terminal import json_line


@click.command()
@job_options
@click.option(
    "--prompts",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    metavar="N",
    help="Show the first N prompts exactly as the model gets them.",
)
@json_option
def plan(prompts: int, as_json: bool, **options: Any) -> None:  # noqa: ANN401  # the shared options, made into JobOptions
    """Show what `run` would do: settings, tokens, batches, memory, prompts. Loads no weights."""
    from batchgen.cli.options import load_from_options
    from batchgen.cli.render.plan import lines, summary
    from batchgen.run.plan import plan as make_plan

    made = make_plan(
        load_from_options(JobOptions(**options)),
        prompts=prompts,
        say=lambda text: click.echo(text, err=True),
        terminal=terminal(),
    )
    if as_json:
        click.echo(json_line(summary(made)))
        return
    for line in _with_prompts(lines(made), made):
        click.echo(line)


def _with_prompts(lines: list[str], made: Any) -> Iterator[str]:  # noqa: ANN401  # Plan is imported late
    from batchgen.cli.render.terminal import printable

    yield from map(printable, lines)
    for number, prompt in enumerate(made.prompts, start=1):
        head = f"prompt {number} of {len(made.prompts)} · id {printable(prompt.id)} · {prompt.tokens:,} tokens "
        yield ""
        yield head + "─" * max(4, 72 - len(head))
        yield printable(prompt.text)
    yield "─" * 72
    yield f"Next: batchgen run {made.setup.loaded.file}"
