"""A function called in a fresh process of its own, which ends with the call, however that ends.

Its memory, threads and environment are nobody else's. Knows nothing of what is called.
"""

from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar, cast

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_SECONDS_TO_END = 30.0
"""For a process that has answered; then it is ended."""


class ProcessDied(Exception):  # noqa: N818  # it says what happened; whether it is an error is the caller's to say
    """The process ended without an answer; `exit_code` is negative for a signal, as -9 where memory ran out."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


def run_in_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a function of a module; arguments and result must be picklable.

    If the caller is interrupted, the process is ended first.

    Raises:
        ProcessDied: it ended without an answer; what it raised is on stderr.
    """
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sending, function, args, kwargs))
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


def _answer(
    sending: Connection,
    function: Callable[..., object],
    args: Sequence[object],
    kwargs: Mapping[str, object],
) -> None:
    sending.send(function(*args, **kwargs))
    sending.close()
