"""A replica: one engine in a process of its own, which takes commands through a pipe.

    parent                      replica
    engine factory        ──>
                          <──   DONE
    generate, likelihoods ──>
                          <──   MORE           ┐ as often as the engine pulls
    a window of items     ──>                  ┘ an empty one: there are none at the moment
                          <──   a result         as often as there is one
    STOP                  ──>                    at any time: rows in flight are discarded
                          <──   DONE
    facts                 ──>
                          <──   a mapping

Instead of any message a replica may send an error; then it exits. It also exits when the pipe closes, that is with its
parent, however the parent ends: in time by itself, or else with all processes that its engine started, if it has a group of
its own. Messages are pickled: only these two processes can write to the pipe.
"""

import os
import select
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any, Literal

from batchgen.engines.contract import Engine
from batchgen.engines.pulled import Pulled
from batchgen.errors import BatchgenError

EngineCommand = Literal["generate", "likelihoods", "facts"]

_PULL_SECONDS = 0.02
"""From an empty window until the next one is asked for: an answer may have been followed by a request since then."""
_CLOSE_SECONDS = 10.0
"""Time for a replica whose parent has exited to end by itself: a step may take a while, and so may the end of an engine."""


class PipeMessage(Enum):
    """Messages other than data."""

    MORE = "more"
    STOP = "stop"
    DONE = "done"


def serve(handle: int) -> None:
    """Run a replica until its pipe, given by file descriptor, closes."""
    if _leads_group():
        _unblock_signals()
    threading.Thread(target=_end_with_parent, args=(handle,), daemon=True).start()
    # The parent has exited: nothing to send, nothing to save.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(Connection(handle))
    # Skips the interpreter's shutdown, as `__main__` does.
    os._exit(0)


def _end_with_parent(handle: int) -> None:
    """End this process some time after the pipe is closed at the other end, even if its engine does not return."""
    watched = select.poll()
    watched.register(handle, 0)  # without events, it returns when the pipe is closed
    watched.poll()
    time.sleep(_CLOSE_SECONDS)
    if _leads_group():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _leads_group() -> bool:
    """Whether this process runs the engine of a library: `replica_process.py`."""
    return os.getpgrp() == os.getpid()


def _unblock_signals() -> None:
    """Have no signal end this process, and any signal the processes that it starts: libraries end those with SIGTERM.

    Blocked signals would stay blocked in them.
    """
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    for one in signals:
        signal.signal(one, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _serve(pipe: Connection) -> None:
    queue = _WorkQueue(pipe)
    with ExitStack() as stack:
        try:
            engine: Engine = pipe.recv()(should_stop=queue.stopped)
            stack.callback(engine.close)
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
        self._window: deque[object] = deque()
        self._next_pull = 0.0

    def items(self) -> Iterator[object]:
        """The items of the next command; a STOP of the one before has no effect on it."""
        self._stopped = False
        self._window.clear()
        self._next_pull = 0.0
        return Pulled(self._pull)

    def _pull(self) -> object | None:
        """The next item; None if there is none. Then the parent is not asked again for a moment: that costs a message."""
        if not self._window and time.monotonic() >= self._next_pull:
            self._window.extend(self._more())
            if not self._window:
                self._next_pull = time.monotonic() + _PULL_SECONDS
        return self._window.popleft() if self._window else None

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
