"""The options that several commands share, and the job that they describe."""

import sys
from collections.abc import Callable
from datetime import datetime
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
    "overrides",
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


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object as the last line of stdout."
)


def setting_options(command: Command) -> Command:
    """`JOB`, `--set` and `--profile`."""
    return click.argument("job", type=JOB)(SET(PROFILE(command)))


def job_options(command: Command) -> Command:
    """`JOB`, and all options that change its settings."""
    return setting_options(LIMIT(OUTPUT(DATE(command))))


def print_json(exit_code: int = 0, /, **content: object) -> None:
    """Print the object of `--json`."""
    head = {"ok": exit_code == 0, "exit_code": int(exit_code)}
    click.echo(json_line({**head, **content}))


def console_reporter(*, quiet: bool = False) -> "Reporter":
    """Messages and progress on stderr; nothing if `quiet`."""
    from batchgen.progress import SILENT, ConsoleReporter

    return SILENT if quiet else ConsoleReporter(sys.stderr)


def load_from_options(  # click passes each option by its name
    *,
    job: Path,
    overrides: tuple[str, ...],
    profile: str | None,
    limit: int | None,
    output: Path | None,
    day: str | None,
) -> "LoadedJob":
    """Load the job that the values of `job_options` describe."""
    from batchgen.jobfile.overrides import literal_override
    from batchgen.run.job_for_run import load_for_run

    if limit is not None:
        overrides = (*overrides, f"input.limit={limit}")
    if output is not None:
        overrides = (*overrides, literal_override("output.path", str(output.absolute())))
        limit = None  # a named folder gets no suffix
    try:
        # A calendar day has no time zone.
        date = datetime.strptime(day, "%Y-%m-%d").date() if day else None  # noqa: DTZ007
    except ValueError as error:
        raise UsageError(
            f"--date {day}: expected a day such as 2026-11-23", hint="Write YYYY-MM-DD."
        ) from error
    return load_for_run(job, overrides=overrides, profile=profile, day=date, limit=limit)
