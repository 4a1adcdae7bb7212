"""`python -m batchgen` and the command `batchgen`: runs it, and turns failures into messages and exit codes."""

import atexit
import gc
import os
import resource
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from batchgen.cli import cli
from batchgen.cli.render.terminal import json_line, printable
from batchgen.cli.stdio import NAMES, name_streams
from batchgen.errors import BatchgenError, ExitCode, ResourceError

FULL_TRACEBACK = "BATCHGEN_TRACEBACK"
"""Environment variable; if set, the tracebacks of bugs include the messages of exceptions."""

_COLLECT_AFTER = (50_000, 20, 50)
"""Instead of Python's 700: torch and transformers create half a million objects that live as long as the process, and
the collector would spend a fifth of the time until a model is loaded on them."""


def main() -> None:
    """Run the command line of this process, and end the process."""
    # A core dump is a copy of every row in memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    gc.set_threshold(*_COLLECT_AFTER)
    name_streams()
    _end(call(sys.argv[1:]))


def _end(status: int) -> NoReturn:
    """End the process without freeing its memory: with a model loaded, that takes a second.

    Waits for threads, calls exit functions and flushes streams first, as Python does.
    """
    try:
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        # Such as a full disk behind stdout: Python reports it, and ends with its own exit code.
        sys.exit(status)
    os._exit(status)


def call(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code."""
    try:
        return int(cli.main(list(arguments), prog_name="batchgen", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 128 + 2
    except BrokenPipeError:
        # The reader is gone (`| head`). Python would report it once more while it closes stdout.
        sys.stdout = None
        return int(ExitCode.DONE)
    except Exception as error:  # noqa: BLE001  # the outermost level: anything unexpected is shown as a bug
        failure = _stream_failure(error) if isinstance(error, OSError) else error
        try:
            _explain(failure, arguments)
        except OSError:
            # Only the exit code is left to report the failure.
            sys.stdout = sys.stderr = None
        return _exit_code(failure)


def _stream_failure(error: OSError) -> Exception:
    """The failure of a stream that cannot be written to, which is closed; any other error as it is."""
    if error.filename not in NAMES:
        return error
    name = error.filename.strip("<>")
    setattr(sys, name, None)
    return ResourceError(
        f"{name}: cannot write: {error.strerror}",
        hint="Check where the output of the command goes; files that it writes are not affected.",
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
