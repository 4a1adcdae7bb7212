"""The options that several commands share, and their values as one object."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchgen.cli.render.terminal import json_line
from batchgen.errors import UsageError

if TYPE_CHECKING:  # pydantic is loaded when a command runs, not for `--help`
    from batchgen.jobfile.load import LoadedJob
    from batchgen.progress import Reporter

Command = TypeVar("Command", bound=Callable[..., Any])

JOB = click.Path(path_type=Path)

SET = click.option(
    "-s",
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override one key of the job, such as decoding.temperature=0.2. Repeatable; has precedence over all files.",
)

PROFILE = click.option(
    "-p",
    "--profile",
    metavar="NAME",
    envvar="BATCHGEN_PROFILE",
    show_envvar=True,
    help="Apply one of the job's profiles.",
)

LIMIT = click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Use only the first rows. Without --output, write to OUTPUT-limit-ROWS.",
)

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write to this folder instead of output.path.",
)

DATE = click.option("--date", "day", metavar="YYYY-MM-DD", help="Value of ${date}. Default: today.")


def setting_options(command: Command) -> Command:
    """`JOB`, `--set` and `--profile`."""
    return click.argument("job", type=JOB)(SET(PROFILE(command)))


def job_options(command: Command) -> Command:
    """`JOB`, and all options that change its settings."""
    return setting_options(LIMIT(OUTPUT(DATE(command))))


def json_option(command: Command) -> Command:
    """The option `--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout."
    )(command)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The values of the options that `job_options` adds to a command."""

    job: Path
    sets: tuple[str, ...]
    profile: str | None
    limit: int | None
    output: Path | None
    day: str | None

    @property
    def overrides(self) -> tuple[str, ...]:
        """All overrides of the command line; its paths are relative to the current folder."""
        from batchgen.jobfile.overrides import literal_override

        extra = []
        if self.limit is not None:
            extra.append(f"input.limit={self.limit}")
        if self.output is not None:
            extra.append(literal_override("output.path", str(self.output.absolute())))
        return (*self.sets, *extra)

    @property
    def date(self) -> date | None:
        """The value of `--date`.

        Raises:
            UsageError: it is not a date in ISO 8601 format.
        """
        if self.day is None:
            return None
        try:
            return datetime.strptime(self.day, "%Y-%m-%d").date()  # noqa: DTZ007  # a calendar day has no time zone
        except ValueError as error:
            raise UsageError(
                f"--date {self.day}: expected a day such as 2026-11-23", hint="Write YYYY-MM-DD."
            ) from error


def print_json(exit_code: int = 0, /, **content: object) -> None:
    """Print the object of `--json`."""
    head = {"ok": exit_code == 0, "exit_code": int(exit_code)}
    click.echo(json_line({**head, **content}))


def console_reporter(*, quiet: bool = False) -> "Reporter":
    """Messages and progress on stderr; nothing if `quiet`."""
    from batchgen.progress import SILENT, ConsoleReporter

    return SILENT if quiet else ConsoleReporter(sys.stderr)


def load_from_options(options: JobOptions) -> "LoadedJob":
    """Load the job that the command line describes.

    Raises:
        JobFileError: the job has errors.
        UsageError: `--date` is not a date.
        StateError: the state in the output folder is damaged.
    """
    from batchgen.run.job_for_run import load_for_run, load_limited

    sets, profile, day = options.overrides, options.profile, options.date
    if options.limit is not None and options.output is None:
        return load_limited(options.job, limit=options.limit, sets=sets, profile=profile, day=day)
    return load_for_run(options.job, sets=sets, profile=profile, day=day)
