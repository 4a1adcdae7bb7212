"""`batchgen run`."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click

from batchgen.cli.options import JobOptions, job_options, json_option, terminal
from batchgen.cli.render.terminal import json_line
from batchgen.errors import UsageError


@click.command()
@job_options
@click.option("--dry-run", is_flag=True, help="Same as `batchgen plan`.")
@click.option("--fresh", is_flag=True, help="Start over; the old run is moved aside, not deleted.")
@click.option(
    "--incremental-from",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Reuse the answers in RUN, the folder of a complete run, for rows that ask the same; generate the others.",
)
@click.option(
    "--retry-errors", is_flag=True, help="Answer the rows that failed again; keep all others."
)
@click.option(
    "--until",
    metavar="HH:MM",
    help="Stop at that time of the day, with exit code 75; the same command goes on.",
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr; shows no answers.")
@click.pass_context
def run(  # noqa: PLR0913  # click hands over each option by its name
    ctx: click.Context,
    /,
    *,
    dry_run: bool,
    fresh: bool,
    incremental_from: Path | None,
    retry_errors: bool,
    until: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401  # the shared options, made into JobOptions
) -> int:
    """Run a job, or go on with it where it was stopped.

    Ends with 0 when done, with 3 when more rows failed than run.max_errors allows, with 4 when a gate of evaluate
    did not pass, and with 75 when --until or run.max_runtime ended it. Ctrl-C stops cleanly; the same command goes
    on. On a terminal the first answers are shown; never in a log.
    """
    if dry_run:
        from batchgen.cli.plan import plan

        ctx.invoke(plan, as_json=as_json, prompts=2, **options)
        return 0
    from batchgen.cli.options import load_from_options
    from batchgen.cli.render.run_summary import print_summary, show_answers, show_metrics, summary
    from batchgen.run.run import run as run_job
    from batchgen.run.stop_signals import handle_stop_signals

    deadlines = _deadlines(until)

    with handle_stop_signals() as stop:
        result = run_job(
            load_from_options(_effective_options(JobOptions(**options), fresh=fresh)),
            start=_start(fresh=fresh, retry_errors=retry_errors),
            incremental_from=incremental_from,
            progress=_progress(quiet),
            say=_say(quiet),
            terminal=None if quiet else terminal(),
            stop=stop,
            deadlines=deadlines,
        )
        if not quiet or result.exit_code != 0:
            print_summary(result)
        if as_json:
            click.echo(json_line(summary(result)))
        elif not quiet and result.outcome != "stopped":
            if result.outcome != "withheld" and sys.stdout.isatty():
                show_answers(result.folder)
            show_metrics(result)
        sys.stdout.flush()
        stop.end_by_signal()
    return int(result.exit_code)


def _effective_options(options: JobOptions, *, fresh: bool) -> JobOptions:
    """The options; a run that starts over begins today, whatever the old one says, which may be damaged."""
    if fresh and options.day is None:
        return replace(options, day=datetime.now().astimezone().date().isoformat())
    return options


def _start(*, fresh: bool, retry_errors: bool) -> Literal["resume", "retry-errors", "fresh"]:
    if fresh and retry_errors:
        raise UsageError(
            "--fresh and --retry-errors do not go together",
            hint="--fresh answers every row again, --retry-errors only those that failed.",
        )
    if retry_errors:
        return "retry-errors"
    return "fresh" if fresh else "resume"


def _deadlines(until: str | None) -> Sequence[Any]:
    if until is None:
        return ()
    from batchgen.run.stop_signals import deadline_at as at

    try:
        clock = datetime.strptime(until, "%H:%M").time()  # noqa: DTZ007  # a time of the day, on local clocks
    except ValueError as error:
        raise UsageError(
            f"--until {until}: expected a time of the day", hint="Write HH:MM, such as 06:00."
        ) from error
    return [at(clock, datetime.now().astimezone())]


def _progress(quiet: bool) -> Callable[[str, int, int], AbstractContextManager[Any]]:
    from batchgen.run.progress_bar import show_progress, silent_progress

    return silent_progress if quiet else show_progress


def _say(quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    return say
