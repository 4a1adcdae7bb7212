"""The options that several commands share, and the one value they are handed on in."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from batchgen.errors import UsageError

if TYPE_CHECKING:  # pydantic is loaded when a command runs, not for `--help`
    from batchgen.jobfile.load import LoadedJob

Command = TypeVar("Command", bound=Callable[..., Any])

JOB = click.Path(path_type=Path)

SET = click.option(
    "-s",
    "--set",
    "sets",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override one key of the job, such as decoding.temperature=0.2. Repeatable; wins over everything.",
)

PROFILE = click.option(
    "-p",
    "--profile",
    metavar="NAME",
    envvar="BATCHGEN_PROFILE",
    show_envvar=True,
    help="Apply a block of the job's profiles.",
)


def setting_options(command: Command) -> Command:
    """`JOB`, and what changes its settings."""
    for option in reversed(
        [
            click.argument("job", type=JOB),
            SET,
            PROFILE,
        ]
    ):
        command = option(command)
    return command


def job_options(command: Command) -> Command:
    """`JOB`, and everything that changes what it says."""
    for option in reversed(
        [
            click.option(
                "-n",
                "--limit",
                type=click.IntRange(1),
                metavar="ROWS",
                help="Only the first rows, written beside the full run (OUTPUT-limit-ROWS) unless --output is given.",
            ),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path),
                metavar="FOLDER",
                help="Write there instead of output.path.",
            ),
            click.option(
                "--date",
                "day",
                metavar="YYYY-MM-DD",
                help="What ${date} means. Default: today.",
            ),
        ]
    ):
        command = option(command)
    return setting_options(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout."
    )(command)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What `job_options` adds to a command, as one value: `JobOptions(**kwargs)`."""

    job: Path
    sets: tuple[str, ...]
    profile: str | None
    limit: int | None
    output: Path | None
    day: str | None

    @property
    def overrides(self) -> tuple[str, ...]:
        """All settings of the command line; paths there are relative to where one stands."""
        from batchgen.jobfile.overrides import literal_override

        extra = []
        if self.limit is not None:
            extra.append(f"input.limit={self.limit}")
        if self.output is not None:
            extra.append(literal_override("output.path", str(self.output.absolute())))
        return (*self.sets, *extra)

    @property
    def date(self) -> date | None:
        """`--date`.

        Raises:
            UsageError: it is no date.
        """
        return parse_date(self.day)


def terminal() -> TextIO | None:
    """Where bars may be drawn: stderr if it is a terminal."""
    return sys.stderr if sys.stderr.isatty() else None


def parse_date(text: str | None) -> date | None:
    """A date as ISO 8601 writes it.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007  # a calendar day has no time zone
    except ValueError as error:
        raise UsageError(
            f"--date {text}: expected a day such as 2026-11-23", hint="Write YYYY-MM-DD."
        ) from error


def load_from_options(options: JobOptions) -> "LoadedJob":
    """Load the job that the command line describes.

    Raises:
        JobFileError: the job is wrong.
        UsageError: `--date` is no date.
        StateError: the output folder's state is damaged.
    """
    from batchgen.run.job_for_run import load_for_run, load_limited

    sets, profile, day = options.overrides, options.profile, options.date
    if options.limit is not None and options.output is None:
        return load_limited(options.job, limit=options.limit, sets=sets, profile=profile, day=day)
    return load_for_run(options.job, sets=sets, profile=profile, day=day)
