"""`batchgen run`."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click

from batchgen.cli.options import JobOptions, job_options, json_option, terminal
from batchgen.cli.text import json_line


@click.command()
@job_options
@click.option("--dry-run", is_flag=True, help="Same as `batchgen plan`.")
@click.option("--fresh", is_flag=True, help="Start over; the old run is moved aside, not deleted.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr; shows no answers.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    dry_run: bool,
    fresh: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401  # the shared options, made into JobOptions
) -> int:
    """Run a job, or go on with it where it was stopped.

    Ends with 0 when done and with 3 when more rows failed than run.max_errors allows. Ctrl-C stops cleanly; the
    same command goes on. On a terminal the first answers are shown; never in a log.
    """
    if dry_run:
        from batchgen.cli.plan import plan

        ctx.invoke(plan, as_json=as_json, prompts=2, **options)
        return 0
    from batchgen.cli.loading import load
    from batchgen.cli.outcome import show_answers, summary, tell
    from batchgen.runner.run import run as run_job
    from batchgen.runner.signals import stop_requests

    with stop_requests() as stop:
        result = run_job(
            load(JobOptions(**options)),
            start="fresh" if fresh else "resume",
            progress=_progress(quiet),
            say=_say(quiet),
            terminal=None if quiet else terminal(),
            stop=stop,
        )
        if not quiet or result.exit_code != 0:
            tell(result)
        if as_json:
            click.echo(json_line(summary(result)))
        elif not quiet and result.outcome != "stopped" and sys.stdout.isatty():
            show_answers(result.folder)
        sys.stdout.flush()
        stop.end_by_signal()
    return int(result.exit_code)


def _progress(quiet: bool) -> Callable[[str, int, int], AbstractContextManager[Any]]:
    from batchgen.runner.progress import shown, silent

    return silent if quiet else shown


def _say(quiet: bool) -> Callable[[str], None]:
    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    return say
