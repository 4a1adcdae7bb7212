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
        code = cli.main(list(arguments), prog_name="batchgen", standalone_mode=False)
    except BatchgenError as error:
        return _failed(str(error), error.exit_code, arguments)
    except click.ClickException as error:
        error.show()
        return _as_json(error.format_message(), error.exit_code, arguments)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped before anything was begun", err=True)
        return 128 + 2
    except BrokenPipeError:
        # Nobody reads any more (`| head`). Python would complain once more while it closes stdout.
        sys.stdout = None
        return int(ExitCode.DONE)
    except Exception:  # noqa: BLE001  # the outermost edge: what nobody foresaw is shown as a bug, never hidden
        traceback.print_exc()
        return _failed(
            "this is a bug in batchgen: please report the lines above", ExitCode.BUG, arguments
        )
    return int(code or ExitCode.DONE)


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
