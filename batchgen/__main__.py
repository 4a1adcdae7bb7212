"""`python -m batchgen` and the `batchgen` command: run it, and turn failures into words and exit codes."""

import json
import sys
import traceback

import click

from batchgen.cli import cli
from batchgen.errors import BatchgenError, ExitCode


def main() -> None:
    """Run the command line and end the process."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        code = cli.main(prog_name="batchgen", standalone_mode=False)
    except BatchgenError as error:
        return _failed(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        return _failed("", error.exit_code, message=error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return 128 + 2
    except BrokenPipeError:
        # Nobody reads any more (`| head`). Python would complain again while closing stdout.
        sys.stdout = None  # type: ignore[assignment]  # the documented way to keep the interpreter from flushing it
        return ExitCode.DONE
    except Exception:  # noqa: BLE001  # the outermost edge: whatever nobody foresaw is reported as a bug, never hidden
        traceback.print_exc()
        return _failed("This is a bug in batchgen: please report the lines above.", ExitCode.BUG)
    return int(code or ExitCode.DONE)


def _failed(text: str, code: int, *, message: str = "") -> int:
    if text:
        click.echo(f"Error: {text}", err=True)
    if "--json" in sys.argv[1:]:
        answer = {"ok": False, "exit_code": int(code), "error": message or text}
        click.echo(json.dumps(answer, ensure_ascii=False))
    return int(code)


if __name__ == "__main__":
    main()
