"""`batchgen run`: runs a job, or resumes it."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from batchgen.cli.options import console_reporter, job_options, json_option, load_from_options
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
    help="Reuse the answers of RUN, the folder of a complete run, for unchanged rows; generate the others.",
)
@click.option("--retry-errors", is_flag=True, help="Generate failed rows again; keep all others.")
@click.option("--until", metavar="HH:MM", help="Stop at this time of day with exit code 75.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only errors; show no answers.")
@click.pass_context
def run(  # noqa: PLR0913  # click passes each option by its name
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
    **options: Any,  # noqa: ANN401  # the arguments of load_from_options
) -> int:
    """Run a job, or resume it.

    Ends with 0 when done, with 3 if more rows failed than run.max_error_rate or run.max_error_count allows, with 4 if a
    gate of evaluate fails, and with 75 if --until or run.max_runtime stopped the run. Stop with Ctrl-C; run the same
    command to resume. The first answers are printed only on a terminal, never into a log.
    """
    if dry_run:
        from batchgen.cli.plan import plan

        ctx.invoke(plan, as_json=as_json, prompts=2, **options)
        return 0
    from batchgen.cli.render.run_summary import print_answers, print_metrics, print_summary, summary
    from batchgen.run.run import run as run_job
    from batchgen.run.stop_signals import handle_stop_signals

    if fresh and retry_errors:
        raise UsageError(
            "--fresh and --retry-errors exclude each other",
            hint="Use --fresh to generate every row again, --retry-errors for only those that failed.",
        )
    if fresh:  # the date that the old run stored may be damaged
        options["day"] = options["day"] or datetime.now().astimezone().date().isoformat()
    deadlines = _deadlines(until)
    with handle_stop_signals() as stop:
        result = run_job(
            load_from_options(**options),
            start="fresh" if fresh else "retry-errors" if retry_errors else "resume",
            incremental_from=incremental_from,
            reporter=console_reporter(quiet=quiet),
            stop=stop,
            deadlines=deadlines,
        )
        if not quiet or result.exit_code != 0:
            print_summary(result)
        if as_json:
            click.echo(json_line(summary(result)))
        elif not quiet and result.outcome != "stopped":
            if result.outcome != "withheld" and sys.stdout.isatty():
                print_answers(result.folder)
            print_metrics(result)
        sys.stdout.flush()
        stop.end_by_signal()
    return int(result.exit_code)


def _deadlines(until: str | None) -> Sequence[Any]:
    if until is None:
        return ()
    from batchgen.run.stop_signals import deadline_at

    try:
        clock = datetime.strptime(until, "%H:%M").time()  # noqa: DTZ007  # a time of day, on local clocks
    except ValueError as error:
        raise UsageError(
            f"--until {until}: expected a time of day", hint="Write HH:MM, such as 06:00."
        ) from error
    return [deadline_at(clock, datetime.now().astimezone())]
