"""The command line: each command parses, calls one function and prints. Results on stdout, messages on stderr.

A command is imported when it is used, so that `--help` stays fast.
"""

import importlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from batchgen.cli.render.next_steps import next_steps

_SECTIONS = {
    "Begin": ("init", "try", "chat", "doctor"),
    "Run": ("run", "plan", "validate"),
    "Evaluate": ("score", "compare", "report", "history", "review", "feedback"),
    "Inspect": ("status", "show", "runs", "export"),
    "Maintain": ("verify", "purge"),
    "Models and reference": ("models", "metrics", "bench", "schema", "completion"),
}
SAVES_ITS_RESULTS = frozenset({"run", "score", "purge", "export", "report", "review"})
"""Commands whose result is on disk: what they print is only a report."""

_PYTHON_NAMES = {"try": "try_"}
"""Commands whose name is a keyword of Python."""


class Commands(click.Group):
    """The commands, each in a module of its own, listed by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for names in _SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        name = _PYTHON_NAMES.get(cmd_name, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"batchgen.cli.{name}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = get_close_matches(name.lower(), self.list_commands(ctx), 1, cutoff=0.5)
            if name.endswith((".yaml", ".yml")):
                hint = f" Did you mean `batchgen run {name}`?"
            else:
                hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(n, c.get_short_help_str(60)) for n, c in commands if c])


CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(None, "-V", "--version", package_name="batchgen-llm", prog_name="batchgen")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Generate text for every row of a table: offline, in batches, resumable.

    \b
      batchgen plan job.yaml     preview: prompts, tokens, batches, memory
      batchgen run  job.yaml     run the job; run it again to resume
      batchgen show out/my-job   print answers
    """  # noqa: D301  # click's \b keeps these lines as they are
    if ctx.invoked_subcommand is None:
        for line in next_steps(Path()):
            click.echo(line)
