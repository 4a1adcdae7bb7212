"""`batchgen chat`: a conversation in the terminal."""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.cli.options import PROFILE, SET, console_reporter, load_from_options
from batchgen.cli.render.terminal import printable
from batchgen.models.demo import DEMO_MODEL

if TYPE_CHECKING:
    from batchgen.jobfile.load import LoadedJob


@click.command()
@click.argument("target", metavar="[JOB | MODEL]", default=DEMO_MODEL)
@SET
@PROFILE
def chat(target: str, overrides: tuple[str, ...], profile: str | None) -> None:
    """Talk to a model in the terminal.

    With JOB, by its model, template and decoding. Without a terminal, each line of stdin is a message or a command; /help
    lists the commands. Ctrl-C stops an answer. The default model is the demo model.
    """
    from batchgen.chat.conversation import HELP, Conversation
    from batchgen.chat.line_input import read_lines
    from batchgen.chat.live_model import open_live_model

    with tempfile.TemporaryDirectory(prefix="batchgen-chat-") as scratch:

        def load(more: Sequence[str]) -> "LoadedJob":
            settings = (*overrides, *more)
            if target.endswith((".yaml", ".yml")):
                return load_from_options(
                    job=Path(target), overrides=settings, profile=profile, limit=None, output=None, day=None
                )  # fmt: skip
            return _job_of_model(target, Path(scratch), settings)

        with console_reporter() as reporter:
            model = open_live_model(load(()), reporter)
        conversation = Conversation(model, load, _show, _report)
        if sys.stdin.isatty():
            _report(f"{target} · /help lists the commands, /quit ends")
        with closing(conversation):
            conversation.hold(read_lines(tuple(HELP)))


def _job_of_model(path: str, scratch: Path, overrides: Sequence[str]) -> "LoadedJob":
    """A job that only names a model: its one row is never sent."""
    import polars as pl

    from batchgen.run.in_memory.frame_job import load_frame_job

    return load_frame_job(
        pl.DataFrame({"prompt": ["-"]}),
        prompt="",
        output=scratch / "chat",
        model=path,
        settings={"input": {"columns": {"prompt": "prompt"}}},
        overrides=overrides,
    )


def _show(text: str) -> None:
    click.echo(printable(text), nl=False)


def _report(text: str) -> None:
    click.echo(printable(text), err=True)
