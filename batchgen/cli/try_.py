"""`batchgen try`: answers a few rows on the screen, and writes no file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.options import console_reporter, load_from_options, setting_options
from batchgen.cli.render.terminal import format_count, printable

if TYPE_CHECKING:
    from batchgen.chat.live_model import LiveModel
    from batchgen.chat.try_rows import TriedRow, TriedSample
    from batchgen.run.requests import PendingRow


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

    For writing a prompt: text is shown as it is generated. Ctrl-C ends an answer. The turns of a conversation are asked one
    after the other; --row with its id takes all of them, with the id of a turn those up to it.
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
    """Print the answers to a row or to the turns of a conversation; False if one failed."""
    from batchgen.chat.try_rows import TriedSample

    samples = model.setup.samples
    answered = True
    for sample in range(samples):
        asked = TriedSample(model, row, sample)
        for number, turn in enumerate(asked, 1):
            head = [f"── {turn.id}"]
            head += [f"turn {number} of {len(row.rows)}"] if len(row.rows) > 1 else []
            head += [f"sample {sample}"] if samples > 1 else []
            _print(" · ".join(head))
            answered &= _print_answer(asked, turn, shows_prompt=shows_prompt)
    return answered


def _print_answer(asked: "TriedSample", turn: "PendingRow", *, shows_prompt: bool) -> bool:
    if shows_prompt and turn.token_ids:
        _print(asked.model.setup.tokenizer.show(turn.token_ids))
        _print("── answer")
    answer = asked.answer(turn, lambda text: click.echo(printable(text), nl=False))
    if answer.completion is not None or answer.text:
        click.echo()
    if answer.failure is not None:
        _print(f"{answer.failure.code}: {answer.failure.message}")
    tokens = format_count(answer.tokens, "token")
    click.echo(f"── {answer.finish_reason or 'stopped'} · {tokens}", err=True)
    return answer.failure is None


def _print(text: str) -> None:
    click.echo(printable(text))
