"""One engine in a process of its own, which its parent asks through a pipe.

    parent                      replica
    how to open an engine ──>
                          <──   DONE
    generate, likelihoods ──>
                          <──   MORE           ┐ as often as the engine pulls
    a window of the asked ──>                  ┘ an empty one is the last
                          <──   an answer        as often as there is one
    STOP                  ──>                    at any time: what is not answered is given up
                          <──   DONE
    facts                 ──>
                          <──   a mapping

In place of anything that it says, a replica may say what went wrong: then it ends. It also ends when its pipe does: with
its parent, however that ends. What goes through the pipe is pickled: nobody else can write there. Knows nothing of
devices and models.
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
    """What goes through the pipe beside data."""

    MORE = "more"
    STOP = "stop"
    DONE = "done"


def serve(handle: int) -> None:
    """A replica's whole life, at the pipe with this file descriptor."""
    # The parent has gone. There is nobody left to answer, and nothing to save.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(Connection(handle))
    # Without taking the process apart, as `__main__` does.
    os._exit(0)


def _serve(pipe: Connection) -> None:
    asked = _WorkQueue(pipe)
    try:
        engine: Engine = pipe.recv()(should_stop=asked.stopped)
        pipe.send(PipeMessage.DONE)
        while True:
            _do(pipe.recv(), engine, asked, pipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001  the parent raises it
        pipe.send(_sendable_error(error))


def _do(
    verb: EngineCommand | PipeMessage, engine: Engine, asked: "_WorkQueue", pipe: Connection
) -> None:
    if verb is PipeMessage.STOP:
        return  # It came when everything was answered.
    if verb == "facts":
        pipe.send(engine.facts())
        return
    answer: Mapping[object, Callable[[Iterator[Any]], Iterator[object]]] = {
        "generate": engine.generate,
        "likelihoods": engine.likelihoods,
    }
    for one in answer[verb](asked.items()):
        pipe.send(one)
    pipe.send(PipeMessage.DONE)


class _WorkQueue:
    """What the parent asks for. Nothing comes unasked but the word to stop, or the end of the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._stopped = False

    def items(self) -> Iterator[object]:
        """All that is asked, pulled a window at a time."""
        self._stopped = False
        while window := self._more():
            yield from window

    def stopped(self) -> bool:
        """Whether to stop; an engine asks between steps.

        Raises:
            EOFError: the parent has gone.
        """
        if not self._stopped and self._pipe.poll():
            self._stopped = self._pipe.recv() is PipeMessage.STOP
        return self._stopped

    def _more(self) -> list[object]:
        if self._stopped:
            return []
        self._pipe.send(PipeMessage.MORE)
        said: list[object] | PipeMessage = self._pipe.recv()
        if isinstance(said, PipeMessage):
            self._stopped = True
            return []
        return said


def _sendable_error(error: Exception) -> BatchgenError:
    """An error that can be sent. Of what nobody foresaw only kind and place are told: its words may quote a row."""
    if isinstance(error, BatchgenError):
        return error
    place = "".join(traceback.format_tb(error.__traceback__))
    return BatchgenError(f"{type(error).__name__}, which is a bug in batchgen", hint=place)
