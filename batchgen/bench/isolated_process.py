"""Calls a function in a new process, which ends with the call."""

from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar, cast

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_SECONDS_TO_END = 30.0
"""Before a process that has sent its result is killed."""


class ProcessDied(Exception):  # noqa: N818  # callers decide whether it is an error
    """The process ended without a result; `exit_code` is negative for a signal, such as -9 when memory ran out."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


def run_in_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a module-level function with picklable arguments and result; the process is killed if the caller is interrupted.

    Raises:
        ProcessDied: it ended without a result; its traceback is on stderr.
    """
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sending, function, args, kwargs))
    process.start()
    sending.close()
    try:
        result = cast(Result, receiving.recv())
        process.join(_SECONDS_TO_END)
    except EOFError:
        process.join(_SECONDS_TO_END)
        raise ProcessDied(process.exitcode) from None
    finally:
        receiving.close()
        process.terminate()
        process.join()
    return result


def _send_result(
    sending: Connection,
    function: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> None:
    sending.send(function(*args, **kwargs))
    sending.close()
