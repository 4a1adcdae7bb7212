"""`python -m batchgen` and the `batchgen` command: run it, and turn failures into words and exit codes."""

import json
import sys
import traceback
from collections.abc import Sequence

import click

from batchgen.cli import cli
from batchgen.errors import BatchgenError, ExitCode


def main() -> None:
    """Run the command line of this process, and end it."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run a command and return what the process should end with."""
    try:
        return int(cli.main(list(arguments), prog_name="batchgen", standalone_mode=False) or 0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 128 + 2
    except BrokenPipeError:
        # Nobody reads any more (`| head`). Python would complain once more while it closes stdout.
        sys.stdout = None
        return int(ExitCode.DONE)
    except Exception as error:  # noqa: BLE001  # the outermost edge: what nobody foresaw is shown as a bug
        return _explained(error, arguments)


def _explained(error: Exception, arguments: Sequence[str]) -> int:
    if isinstance(error, BatchgenError):
        return _failed(str(error), error.exit_code, arguments)
    if isinstance(error, click.ClickException):
        error.show()
        return _as_json(error.format_message(), error.exit_code, arguments)
    traceback.print_exception(error)
    text = "this is a bug in batchgen: please report the lines above"
    return _failed(text, ExitCode.BUG, arguments)


def _failed(text: str, code: int, arguments: Sequence[str]) -> int:
    click.echo(f"Error: {text}", err=True)
    return _as_json(text, code, arguments)


def _as_json(text: str, code: int, arguments: Sequence[str]) -> int:
    if "--json" in arguments:
        answer = {"ok": False, "exit_code": int(code), "error": text}
        click.echo(json.dumps(answer, ensure_ascii=False))
    return int(code)


if __name__ == "__main__":
    main()
