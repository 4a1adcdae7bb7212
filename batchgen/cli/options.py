"""The options that several commands share, and the job that they describe."""

import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from batchgen.cli.render.terminal import format_bytes, json_line, printable
from batchgen.errors import UsageError

if TYPE_CHECKING:  # pydantic is loaded when a command runs, not for `--help`
    from batchgen.jobfile.load import LoadedJob
    from batchgen.jobfile.matrix.load_matrix import LoadedMatrix
    from batchgen.progress import Reporter

Command = TypeVar("Command", bound=Callable[..., Any])

JOB = click.Path(path_type=Path)


GIVEN_RUN = "batchgen.given_run"
"""Key in the context of a command: the address of the run in object storage that the user gave."""


class RunPath(click.Path):
    """A path, or the address of a run in object storage, which becomes the path of its copy on this machine."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  # as click declares it
        from batchgen.storage.remote.object_url import is_object_url

        if is_object_url(value):
            from batchgen.state.bucket_run import local_run

            given, value = value, local_run(value)
            if ctx is not None:
                ctx.meta[GIVEN_RUN] = given
        return super().convert(value, param, ctx)


class VotedRunPath(click.Path):
    """The folder of a run with votes; the address of a run in object storage, which takes none, is an error."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  # as click declares it
        from batchgen.storage.remote.object_url import is_object_url

        if is_object_url(value):
            from batchgen.errors import UsageError

            raise UsageError(
                f"{value}: a run in object storage takes no votes: nothing is written into a bucket",
                hint="Copy the run to a folder with a client of the store, and give that folder.",
            )
        return super().convert(value, param, ctx)


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

MATRIX = click.option(
    "--matrix",
    "matrix",
    metavar="KEY=[VALUE, ...]",
    multiple=True,
    help="A run for each value of a key, such as 'decoding.temperature=[0, 0.7]', in a folder below the output folder. "
    "Repeatable: a run for each combination.",
)

LIMIT = click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    metavar="ROWS",
    help="Use only the first rows. Without --output, write to OUTPUT-limit-ROWS. Uploads nothing.",
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


incremental_option = click.option(
    "--incremental-from",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Reuse the answers of RUN, the folder of a complete run, for unchanged rows; generate the others. `latest` is the "
    "newest published run of the same job next to the output folder, or in it with --fresh.",
)


def summary_file_options(command: Command) -> Command:
    """`--markdown` and `--junit`."""
    kind = click.Path(path_type=Path, dir_okay=False)
    markdown = click.option(
        "--markdown",
        type=kind,
        metavar="FILE",
        help="Write the result as Markdown, for pull requests and mails.",
    )
    junit = click.option(
        "--junit", type=kind, metavar="FILE", help="Write the result as JUnit XML, for CI."
    )
    return markdown(junit(command))


def print_written(path: Path) -> None:
    """Print the name and the size of a file for people that a command has written."""
    click.echo(f"wrote  {printable(str(path))} ({format_bytes(path.stat().st_size)})", err=True)


def write_summary(path: Path | None, text: Callable[[], str]) -> None:
    """Write one of these files, if its option was given."""
    from batchgen.storage.durable import disk_errors, write_durably

    if path is not None:
        with disk_errors("cannot write", path):
            write_durably(path.absolute(), text().encode(), scratch=path.absolute().parent)


def setting_options(command: Command) -> Command:
    """`JOB`, `--set` and `--profile`."""
    return click.argument("job", type=JOB)(SET(PROFILE(command)))


def job_options(command: Command) -> Command:
    """`JOB`, and all options that change its settings."""
    return setting_options(MATRIX(LIMIT(OUTPUT(DATE(command)))))


def next_command(name: str, *, without: Collection[str] = ()) -> str:
    """`batchgen NAME` with the arguments and options of this command that NAME has too, quoted for a shell.

    `without` are names of parameters to leave out.
    """
    context = click.get_current_context()
    if context.parent is not None and context.parent.command.name == "run":  # run --dry-run
        context = context.parent
    root = context.find_root().command
    target = root.get_command(context, name) if isinstance(root, click.Group) else None
    given = [one for one in target.params if one.name not in without] if target else []
    words = [word for one in given for word in _words(one, context)]
    return shlex.join(["batchgen", name, *words])


def _words(parameter: click.Parameter, context: click.Context) -> Iterator[str]:
    """The parameter as it is written on a command line; nothing if it was not given, or is about output."""
    given = context.get_parameter_source(parameter.name or "")
    if given not in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
        return
    if parameter.name in ("as_json", "quiet", "dry_run"):
        return
    value = context.params[parameter.name or ""]
    if isinstance(parameter, click.Argument):
        text = str(value)
        yield f"./{text}" if text.startswith("-") else text
        return
    for one in value if parameter.multiple else [value]:
        text = str(one)
        if isinstance(parameter, click.Option) and parameter.is_flag:
            yield parameter.opts[0]
        elif text.startswith("-"):
            yield f"{parameter.opts[-1]}={text}"
        else:
            yield from (parameter.opts[0], text)


def print_json(exit_code: int = 0, /, **content: object) -> None:
    """Print the object of `--json`."""
    head = {"ok": exit_code == 0, "exit_code": int(exit_code)}
    click.echo(json_line({**head, **content}))


def console_reporter(*, quiet: bool = False) -> "Reporter":
    """Messages and progress on stderr; nothing if `quiet`."""
    from batchgen.progress import SILENT, ConsoleReporter

    return SILENT if quiet else ConsoleReporter(sys.stderr)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The values of `job_options`."""

    job: Path
    overrides: tuple[str, ...]
    profile: str | None
    limit: int | None
    output: Path | None
    day: str | None
    matrix: tuple[str, ...] = ()

    def load(self, reporter: "Reporter | None" = None) -> "LoadedJob":
        """Load the job.

        With a `reporter`, as of the stopped run of an earlier day, if there is one.
        """
        from batchgen.run.job_for_run import load_for_run

        return load_for_run(self.job, reporter=reporter, **self._arguments())

    def load_matrix(self, reporter: "Reporter | None" = None) -> "LoadedMatrix | None":
        """Load the runs of a matrix; None if the job is one run."""
        from batchgen.run.matrix.matrix_for_run import load_matrix_for_run

        arguments = {"options": self.matrix, **self._arguments()}
        return load_matrix_for_run(self.job, reporter=reporter, **arguments)

    def _arguments(self) -> dict[str, Any]:
        """The arguments of `load_for_run`."""
        from batchgen.jobfile.overrides import literal_override

        overrides, limit = self.overrides, self.limit
        if limit is not None:
            overrides = ("output.upload=null", *overrides, f"input.limit={limit}")
        if self.output is not None:
            folder = str(self.output.absolute())
            overrides = (*overrides, literal_override("output.path", folder))
            limit = None  # a named folder gets no suffix
        try:
            # A calendar day has no time zone.
            date = datetime.strptime(self.day, "%Y-%m-%d").date() if self.day else None  # noqa: DTZ007
        except ValueError as error:
            raise UsageError(
                f"--date {self.day}: expected a day such as 2026-11-23", hint="Write YYYY-MM-DD."
            ) from error
        return {"overrides": overrides, "profile": self.profile, "day": date, "limit": limit}


def load_from_options(reporter: "Reporter | None" = None, **options: Any) -> "LoadedJob":  # noqa: ANN401  # the values of job_options
    """Load the job of a command that runs no matrix."""
    return JobOptions(**options).load(reporter)
