"""`batchgen try`: answers a few rows on the screen, and writes no file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import console_reporter, load_from_options, setting_options
from batchgen.cli.render.terminal import format_count, printable

if TYPE_CHECKING:
    from batchgen.chat.live_model import LiveModel
    from batchgen.chat.try_rows import TriedRow
    from batchgen.records import Request


@click.command("try")
@setting_options
@click.option("--row", "id_", metavar="ID", help="The row with this id, instead of the first ones.")
@click.option(
    "-n",
    "--n",
    "count",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    metavar="ROWS",
    help="Number of rows to answer, from the first one.",
)
@click.option(
    "--prompt", "shows_prompt", is_flag=True, help="Print each prompt as the model gets it."
)
def try_(job: Path, *, id_: str | None, count: int, shows_prompt: bool, **options: Any) -> int:  # noqa: ANN401  # the arguments of load_from_options
    """Answer a few rows of JOB on the screen, and write no file.

    For writing a prompt: text is shown as it is generated. Ctrl-C ends an answer.
    """
    from batchgen.chat.live_model import open_live_model
    from batchgen.chat.try_rows import rows_to_try
    from batchgen.errors import ExitCode

    with console_reporter() as reporter:
        loaded = load_from_options(job=job, limit=None, output=None, day=None, **options)
        opened = open_live_model(loaded, reporter)
    with opened as model:
        rows = rows_to_try(model, id_=id_, count=count)
        answered = [_print_row(model, row, shows_prompt=shows_prompt) for row in rows]
    return int(ExitCode.DONE if all(answered) else ExitCode.TOO_MANY_FAILED_ROWS)


def _print_row(model: "LiveModel", row: "TriedRow", *, shows_prompt: bool) -> bool:
    """Print the answers to a row; False if one failed."""
    if row.failure is not None:
        _print(f"── {row.id} · {row.failure.code}: {row.failure.message}")
        return False
    several = len(row.requests) > 1
    answered = [
        _print_answer(model, row.id, request, several=several, shows_prompt=shows_prompt)
        for request in row.requests
    ]
    return all(answered)


def _print_answer(
    model: "LiveModel", id_: str, request: "Request", *, several: bool, shows_prompt: bool
) -> bool:
    _print(f"── {id_} · sample {request.sample}" if several else f"── {id_}")
    if shows_prompt:
        _print(model.setup.tokenizer.show(request.token_ids))
        _print("── answer")
    answer = model.answer(request, lambda text: click.echo(printable(text), nl=False))
    click.echo()
    if answer.failure is not None:
        _print(f"{answer.failure.code}: {answer.failure.message}")
    tokens = format_count(answer.tokens, "token")
    click.echo(f"── {answer.finish_reason or 'stopped'} · {tokens}", err=True)
    return answer.failure is None


def _print(text: str) -> None:
    click.echo(printable(text))
