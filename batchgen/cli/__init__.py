"""The command line: parse, call one function, print. Results on stdout, messages on stderr.

Commands are imported when they are used, so that `--help` costs nothing.
"""

import importlib
from typing import Any

import click

_SECTIONS = {
    "Run": ("run", "plan", "validate"),
    "Evaluate": ("score", "compare"),
    "Look": ("status", "show"),
    "Keep": ("verify", "purge"),
    "Models and reference": ("models", "metrics", "bench", "schema"),
}
_MODULES = {
    "run": "run",
    "plan": "plan",
    "validate": "validate",
    "score": "score",
    "compare": "compare",
    "status": "status",
    "show": "status",
    "verify": "verify",
    "purge": "verify",
    "models": "models",
    "metrics": "metrics",
    "bench": "bench",
    "schema": "schema",
}


class Commands(click.Group):
    """A group whose commands lie in modules of their own, listed by section."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the help page."""
        del ctx
        return [name for names in _SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module that holds the command."""
        del ctx
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"batchgen.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section."""
        for title, names in _SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(n, c.get_short_help_str(80)) for n, c in found if c])


CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(None, "-V", "--version", package_name="batchgen-llm", prog_name="batchgen")
def cli() -> None:
    """Generate text for every row of a table: offline, in batches, restartable.

    \b
      batchgen plan job.yaml     what would run: prompts, tokens, batches, memory
      batchgen run  job.yaml     run it; run it again to go on where it stopped
      batchgen show out/my-job   read the answers
    """  # noqa: D301  # \b is click's mark for "keep these lines", not an escape sequence of the text
