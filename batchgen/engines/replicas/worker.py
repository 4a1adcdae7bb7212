"""A replica: one engine in a process of its own, which takes commands through a pipe.

    parent                      replica
    engine factory        ──>
                          <──   DONE
    generate, likelihoods ──>
                          <──   MORE           ┐ as often as the engine pulls
    a window of items     ──>                  ┘ an empty one is the last
                          <──   a result         as often as there is one
    STOP                  ──>                    at any time: rows in flight are discarded
                          <──   DONE
    facts                 ──>
                          <──   a mapping

Instead of any message a replica may send an error; then it exits. It also exits when the pipe closes, that is with its
parent, however the parent ends. Messages are pickled: only these two processes can write to the pipe.
"""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any, Literal

from batchgen.engines.contract import Engine
from batchgen.errors import BatchgenError

EngineCommand = Literal["generate", "likelihoods", "facts"]


class PipeMessage(Enum):
    """Messages other than data."""

    MORE = "more"
    STOP = "stop"
    DONE = "done"


def serve(handle: int) -> None:
    """Run a replica until its pipe, given by file descriptor, closes."""
    # The parent has exited: nothing to send, nothing to save.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(Connection(handle))
    # Skips the interpreter's shutdown, as `__main__` does.
    os._exit(0)


def _serve(pipe: Connection) -> None:
    queue = _WorkQueue(pipe)
    try:
        engine: Engine = pipe.recv()(should_stop=queue.stopped)
        pipe.send(PipeMessage.DONE)
        while True:
            _execute(pipe.recv(), engine, queue, pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001  the parent raises it
        pipe.send(_sendable_error(error))


def _execute(
    command: EngineCommand | PipeMessage, engine: Engine, queue: "_WorkQueue", pipe: Connection
) -> None:
    if command is PipeMessage.STOP:
        return  # It arrived after the last result.
    if command == "facts":
        pipe.send(engine.facts())
        return
    methods: Mapping[object, Callable[[Iterator[Any]], Iterator[object]]] = {
        "generate": engine.generate,
        "likelihoods": engine.likelihoods,
    }
    for one in methods[command](queue.items()):
        pipe.send(one)
    pipe.send(PipeMessage.DONE)


class _WorkQueue:
    """The items of a command, pulled from the parent. Only STOP arrives without a request for it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._stopped = False

    def items(self) -> Iterator[object]:
        self._stopped = False
        while window := self._more():
            yield from window

    def stopped(self) -> bool:
        """Whether STOP has arrived; an engine calls this between steps.

        Raises:
            EOFError: the parent has exited.
        """
        if not self._stopped and self._pipe.poll():
            self._stopped = self._pipe.recv() is PipeMessage.STOP
        return self._stopped

    def _more(self) -> list[object]:
        if self._stopped:
            return []
        self._pipe.send(PipeMessage.MORE)
        message: list[object] | PipeMessage = self._pipe.recv()
        if isinstance(message, PipeMessage):
            self._stopped = True
            return []
        return message


def _sendable_error(error: Exception) -> BatchgenError:
    """An error that can be pickled. Of an unexpected one only type and traceback are kept: its message may quote a row."""
    if isinstance(error, BatchgenError):
        return error
    trace = "".join(traceback.format_tb(error.__traceback__))
    return BatchgenError(f"{type(error).__name__}, which is a bug in batchgen", hint=trace)
