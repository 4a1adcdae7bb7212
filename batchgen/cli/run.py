"""`batchgen run`: runs a job, or resumes it."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchgen.cli.notice_options import NOTICE_OPTIONS, notice_options, open_announcer
from batchgen.cli.options import (
    JobOptions,
    console_reporter,
    incremental_option,
    job_options,
    json_option,
    next_command,
    summary_file_options,
    write_summary,
)
from batchgen.cli.render.terminal import json_line, printable
from batchgen.errors import UsageError

if TYPE_CHECKING:
    from batchgen.jobfile.load import LoadedJob
    from batchgen.jobfile.matrix.load_matrix import LoadedMatrix
    from batchgen.progress import Reporter
    from batchgen.run.matrix.matrix_result import MatrixResult
    from batchgen.run.matrix.matrix_run import Ended
    from batchgen.run.notices.announce import Announcer
    from batchgen.run.result import RunResult
    from batchgen.run.run import Start
    from batchgen.run.stop_signals import StopRequest


@click.command()
@job_options
@click.option("--dry-run", is_flag=True, help="Same as `batchgen plan`.")
@click.option("--fresh", is_flag=True, help="Start over; the old run is moved aside, not deleted.")
@incremental_option
@click.option("--retry-errors", is_flag=True, help="Generate failed rows again; keep all others.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Make only the parts of shard I of N, from 0 to N-1, and publish nothing; `any` claims parts that no other process "
    "makes. Start the same command with other numbers on other machines that share the output folder.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="Publish a run whose parts shards have made; 75 if some are missing.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Make the parts on the nodes of a Ray cluster: auto, HOST:PORT of its head node, or local. All nodes share the output "
    "folder, the input and the model.",
)
@click.option(
    "--ray-workers",
    type=click.IntRange(1),
    metavar="N",
    help="Workers of --ray, each with an engine. Default: one for each GPU, or one for each node.",
)
@click.option("--until", metavar="HH:MM", help="Stop at this time of day with exit code 75.")
@summary_file_options
@notice_options
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
    shard: str | None,
    merge: bool,
    ray: str | None,
    ray_workers: int | None,
    until: str | None,
    as_json: bool,
    quiet: bool,
    markdown: Path | None,
    junit: Path | None,
    **options: Any,  # noqa: ANN401  # the values of job_options
) -> int:
    """Run a job, or resume it.

    Ends with 0 when done, with 3 if more rows failed than run.max_error_rate or run.max_error_count allows, with 4 if a
    gate of evaluate fails, and with 75 if a limit stopped the run or a server stayed unreachable. Stop with Ctrl-C; run the same
    command to resume. If only keys of output changed that decide no answer, the answers are published again. The first answers are printed only on a terminal, never into a log.
    """
    announcer = open_announcer(options)
    if dry_run:
        from batchgen.cli.plan import plan

        ctx.invoke(plan, as_json=as_json, prompts=2, incremental_from=incremental_from, **options)
        return 0
    if fresh and retry_errors:
        raise UsageError(
            "--fresh and --retry-errors exclude each other",
            hint="Use --fresh to generate every row again, --retry-errors for only those that failed.",
        )
    _check_share(
        {"--shard": shard is not None, "--merge": merge, "--ray": ray is not None},
        {"--fresh": fresh, "--retry-errors": retry_errors},
    )
    if ray_workers is not None and ray is None:
        raise UsageError(
            "--ray-workers is given without --ray", hint="Add --ray ADDRESS, such as --ray auto."
        )
    with console_reporter(quiet=quiet) as reporter:
        # Printed before anything slow is imported.
        reporter.info(f"starting {printable(str(options['job']))}")
        start: Start = "fresh" if fresh else "retry-errors" if retry_errors else "resume"
        share = _Share(
            start, incremental_from, until, shard, merge=merge, ray=ray, ray_workers=ray_workers
        )
        return _run(
            options,
            reporter,
            share,
            _Output(announcer, as_json=as_json, quiet=quiet, markdown=markdown, junit=junit),
        )


def _check_share(shares: Mapping[str, bool], starts: Mapping[str, bool]) -> None:
    """Raise UsageError for two options that choose who makes parts, or one of them with a start that it cannot have."""
    given = [name for name, is_set in shares.items() if is_set]
    if len(given) > 1:
        hints = {
            "--merge": "Run with --merge alone, after all shards.",
            "--ray": "Run with --ray alone: its workers share the parts.",
        }
        raise UsageError(f"{given[1]} and {given[0]} exclude each other", hint=hints[given[1]])
    impossible = {
        "--fresh": ("Start over in another folder with --output FOLDER.", ("--shard", "--merge")),
        "--retry-errors": (
            "Publish the run first, then run with --retry-errors alone.",
            ("--shard", "--merge", "--ray"),
        ),
    }
    for name, (hint, excluded) in impossible.items():
        if starts[name] and given and given[0] in excluded:
            raise UsageError(f"{name} and {given[0]} exclude each other", hint=hint)


@dataclass(frozen=True, slots=True)
class _Share:
    """What of the run this process does: a shard, publishing alone with `merge`, all but the parts with `ray`, or else all."""

    start: "Start"
    incremental_from: Path | None
    until: str | None
    shard: str | None
    merge: bool
    ray: str | None
    ray_workers: int | None

    def run(self, loaded: "LoadedJob", reporter: "Reporter", stop: "StopRequest") -> "RunResult":
        from batchgen.run.run import run as run_job
        from batchgen.run.shards.merge_shards import NoExecutor, check_begun
        from batchgen.run.shards.shard_run import run_shard
        from batchgen.state.run_folder import RunFolder
        from batchgen.state.shards.shard import parse_shard

        common = self._common(reporter, stop)
        if self.shard is not None:
            return run_shard(loaded, parse_shard(self.shard), **common)
        if self.ray is not None:
            from batchgen.run.ray_cluster.ray_run import RayCluster, run_on_ray

            cluster = RayCluster(self.ray, self.ray_workers)
            return run_on_ray(loaded, _worker_words(loaded), cluster, start=self.start, **common)
        executor = None
        if self.merge:
            folder = RunFolder(Path(loaded.job.output.path))
            check_begun(folder, loaded.job.output)
            executor = NoExecutor(folder)
        return run_job(loaded, start=self.start, executor=executor, **common)

    def run_matrix(
        self, matrix: "LoadedMatrix", reporter: "Reporter", stop: "StopRequest", ended: "Ended"
    ) -> "MatrixResult":
        from batchgen.run.matrix.matrix_run import run_matrix

        shares = {"--shard": self.shard, "--merge": self.merge, "--ray": self.ray}
        if given := [name for name, value in shares.items() if value]:
            raise UsageError(
                f"{given[0]} and a matrix exclude each other: the runs of a matrix follow one another",
                hint="Share one run: give its values with --set, --set matrix=null and a folder with --output.",
            )
        return run_matrix(matrix, start=self.start, ended=ended, **self._common(reporter, stop))

    def _common(self, reporter: "Reporter", stop: "StopRequest") -> dict[str, Any]:
        from batchgen.engines.engine_registry import open_engine
        from batchgen.run.stop_signals import InterruptibleOpener

        return {
            "incremental_from": self.incremental_from,
            "reporter": reporter,
            "stop": stop,
            "deadlines": _deadlines(self.until),
            "opener": InterruptibleOpener(open_engine, stop),
        }


@dataclass(frozen=True, slots=True)
class _Output:
    """What is printed, its files, and those who watch the run."""

    announcer: "Announcer"
    as_json: bool
    quiet: bool
    markdown: Path | None
    junit: Path | None

    def write_files(self, name: str, result: "RunResult") -> None:
        """Write the gates and metrics of a run that is complete."""
        from batchgen.report.exchange.junit import gates_junit
        from batchgen.report.exchange.markdown import gates_markdown

        if result.outcome not in ("stopped", "sealed"):
            write_summary(self.markdown, lambda: gates_markdown(name, result.gates, result.metrics))
            write_summary(self.junit, lambda: gates_junit(name, result.gates))


def _run(options: dict[str, Any], reporter: "Reporter", share: _Share, output: "_Output") -> int:
    from batchgen.cli.render.run_summary import print_answers, print_metrics, print_summary, summary
    from batchgen.run.notices.run_notice import RunNotice
    from batchgen.run.stop_signals import handle_stop_signals

    if share.start == "fresh":  # the date that the old run stored may be damaged
        options["day"] = options["day"] or datetime.now().astimezone().date().isoformat()
    _deadlines(share.until)  # an invalid one is reported before anything is read
    with handle_stop_signals() as stop:
        job = JobOptions(**options)
        with output.announcer.of_errors(job.job.stem):
            if (matrix := job.load_matrix(reporter)) is not None:
                return _run_matrix(matrix, reporter, share, output, stop=stop)
            loaded = job.load(reporter)
        with output.announcer.of_errors(loaded.job.name):
            result = share.run(loaded, reporter, stop)
        output.write_files(loaded.job.name, result)
        output.announcer.announce(RunNotice.of_result(loaded.job.name, result))
        if not output.quiet or result.exit_code != 0:
            print_summary(result, resume=_resume_command(loaded, merge=share.merge))
        if output.as_json:
            click.echo(json_line(summary(result)))
        elif not output.quiet and result.outcome not in ("stopped", "sealed"):
            if result.outcome != "withheld" and sys.stdout.isatty():
                print_answers(result.folder)
            print_metrics(result)
        sys.stdout.flush()
        stop.end_by_signal()
    return int(result.exit_code)


def _run_matrix(
    matrix: "LoadedMatrix",
    reporter: "Reporter",
    share: _Share,
    output: "_Output",
    *,
    stop: "StopRequest",
) -> int:
    from batchgen.cli.matrix_output import MatrixOutput

    prints = MatrixOutput(
        as_json=output.as_json,
        quiet=output.quiet,
        markdown=output.markdown,
        junit=output.junit,
        resume=_resume_command(matrix.first, merge=False),
    )
    result = share.run_matrix(matrix, reporter, stop, prints.print_run)
    output.announcer.announce(result.notice(matrix.first.job.name))
    prints.print_matrix(result)
    sys.stdout.flush()
    stop.end_by_signal()
    return int(result.exit_code)


def _resume_command(loaded: "LoadedJob", *, merge: bool) -> str:
    """The command that resumes the run; with the date of the run, so that it works after midnight as well."""
    # The address of --notify may contain a secret.
    once = {"fresh", "retry_errors", "incremental_from", "until", "merge", "notify"}
    command = next_command("run", without={*once, "day"})
    command = f"{command} --date {loaded.date}" if loaded.uses_date else command
    return f"start these shards again, or make their parts here: {command}" if merge else command


def _worker_words(loaded: "LoadedJob") -> list[str]:
    """The command line that a worker of --ray continues, after `batchgen`; with the date of the run."""
    own = {"fresh", "until", "ray", "ray_workers", "day", "markdown", "junit", *NOTICE_OPTIONS}
    words = shlex.split(next_command("run", without=own))[1:]
    return [*words, "--date", str(loaded.date)] if loaded.uses_date else words


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
