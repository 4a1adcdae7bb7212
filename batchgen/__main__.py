"""`python -m batchgen` and the command `batchgen`: runs it, and turns failures into messages and exit codes."""

import atexit
import gc
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from batchgen.cli import SAVES_ITS_RESULTS, cli
from batchgen.cli.render.terminal import json_line, printable
from batchgen.cli.stdio import OutputStreams
from batchgen.errors import (
    BatchgenError,
    ExitCode,
    ResourceError,
    check_platform,
    is_out_of_memory,
)
from batchgen.planning.address_space import DATA_LIBRARIES_BYTES, require_address_space

FULL_TRACEBACK = "BATCHGEN_TRACEBACK"
"""Environment variable; if set, the tracebacks of bugs include the messages of exceptions."""

_COLLECT_AFTER = (50_000, 20, 50)
"""Instead of Python's 700: torch and transformers create half a million objects that live as long as the process, and
the collector would spend a fifth of the time until a model is loaded on them."""


def main() -> None:
    """Run the command line of this process, and end the process."""
    try:
        check_platform()
        if not {"--help", "--version"}.intersection(sys.argv) and len(sys.argv) > 1:
            require_address_space(DATA_LIBRARIES_BYTES, "batchgen")
    except ResourceError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    # POSIX has it, other systems do not.
    import resource

    # A core dump is a copy of every row in memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    gc.set_threshold(*_COLLECT_AFTER)
    streams = OutputStreams()
    _end(call(sys.argv[1:]), streams)


def _end(status: int, streams: OutputStreams) -> NoReturn:
    """End the process without freeing its memory: with a model loaded, that takes a second.

    Waits for threads, calls exit functions and flushes streams first, as Python does.
    """
    # What Python calls first when it ends: it ends the threads of pools, which would wait for work for ever, and joins them.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if failure := streams.flush():
        hint = "Check where the output of the command goes; files that it writes are not affected."
        error = ResourceError(f"stdout: cannot write: {failure}", hint=hint)
        click.echo(f"Error: {error}", err=True)
        if status == ExitCode.DONE and not SAVES_ITS_RESULTS.intersection(sys.argv[1:2]):
            status = error.exit_code
    os._exit(status)


def call(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code."""
    try:
        return int(cli.main(list(arguments), prog_name="batchgen", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 128 + 2
    except Exception as error:  # noqa: BLE001  # the outermost level: anything unexpected is shown as a bug
        shown = _translated(error)
        _explain(shown, arguments)
        return _exit_code(shown)


def _translated(error: Exception) -> Exception:
    """The error for the user: libraries raise many classes when memory is exhausted, which is not a bug."""
    if isinstance(error, BatchgenError) or not is_out_of_memory(error):
        return _of_the_disk(error) or _of_a_package(error) or error
    if os.environ.get(FULL_TRACEBACK):
        click.echo(_trace(error), err=True, nl=False)
    return ResourceError(
        f"no memory is left ({type(error).__name__})",
        hint="Free memory, or raise the limits of this process (`ulimit -a`) or of its control group.",
    )


def _of_the_disk(error: Exception) -> ResourceError | None:
    """The error for a file that the system refuses, such as one in a folder that vanished; None for any other."""
    if not isinstance(error, OSError) or error.filename is None or not error.strerror:
        return None
    return ResourceError(
        f"{os.fsdecode(error.filename)}: {error.strerror}",
        hint="Check the path and its disk, then repeat the command.",
    )


def _of_a_package(error: Exception) -> ResourceError | None:
    """The error for a dependency that is not installed, such as in a checkout; None for any other."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "batchgen").startswith(
        "batchgen"
    ):
        return None
    return ResourceError(
        f"batchgen needs the package {error.name}, which is not installed for {sys.executable}",
        hint="Install batchgen with pip in this environment, or activate the one that contains it.",
    )


def _exit_code(error: Exception) -> int:
    if isinstance(error, BatchgenError | click.ClickException):
        return int(error.exit_code)
    return int(ExitCode.BUG)


def _explain(error: Exception, arguments: Sequence[str]) -> None:
    if isinstance(error, click.ClickException):
        error.show()
        text = error.format_message()
    elif isinstance(error, BatchgenError):
        text = str(error)
        click.echo(printable(f"Error: {text}"), err=True)
    else:
        click.echo(_trace(error), err=True, nl=False)
        text = "this is a bug in batchgen: please report the lines above"
        click.echo(f"Error: {text}", err=True)
    if "--json" in arguments:
        answer = {"ok": False, "exit_code": _exit_code(error), "error": text}
        click.echo(json_line(answer))


def _trace(error: BaseException) -> str:
    """The traceback as Python formats it, without messages: those of libraries quote values."""
    if os.environ.get(FULL_TRACEBACK):
        return "".join(traceback.format_exception(error))
    lines = []
    link: BaseException | None = error
    while link is not None:
        lines += [*traceback.format_tb(link.__traceback__), type(link).__qualname__, "\n"]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        lines += ["\nfollowing\n\n"] if link is not None else []
    note = f"messages are omitted because they may quote rows; {FULL_TRACEBACK}=1 shows them"
    return f"Traceback (most recent call last):\n{''.join(lines)}({note})\n"


if __name__ == "__main__":
    main()
