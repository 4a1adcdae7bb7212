"""Engines without a model for replicas: slow ones, and ones that certain rows break or kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from batchgen.engines.contract import Engine
from batchgen.engines.echo import EchoEngine
from batchgen.engines.replicas.replica_process import captured_output
from batchgen.engines.replicas.replicated_engine import EngineFactory, ReplicatedEngine
from batchgen.errors import ModelError
from batchgen.prompts.byte_tokenizer import ByteTokenizer
from batchgen.records import AnswerDecoder, Completion, Request
from tests.plain_decoder import PlainDecoder

BUG, REFUSAL, DEATH, HANG = 7, 8, 9, 10
"""Tokens that break an engine."""
SECRET = "the text of a row"
MARK = "deadly"
"""Text that kills an engine, once."""


class Touchy(EchoEngine):
    """A slow engine that breaks at certain tokens."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            time.sleep(0.002)
            if BUG in request.token_ids:
                raise ZeroDivisionError(SECRET)
            if REFUSAL in request.token_ids:
                raise ModelError("no such token", hint="another model")
            if DEATH in request.token_ids:
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().generate([request])


class Collecting(EchoEngine):
    """Pulls all requests before it answers the first; calls `should_stop` before each."""

    def __init__(self, decode: AnswerDecoder, should_stop: Callable[[], bool]) -> None:
        super().__init__(decode)
        self._should_stop = should_stop

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in list(requests):
            if self._should_stop():
                return
            time.sleep(0.01)
            yield from super().generate([request])


def process(_token_ids: Sequence[int]) -> str:
    """The id of the answering process, as text."""
    return str(os.getpid())


def touchy(*, should_stop: Callable[[], bool]) -> Engine:
    del should_stop  # It is stopped when it pulls more.
    return Touchy(PlainDecoder(process))


def collecting(*, should_stop: Callable[[], bool]) -> Engine:
    return Collecting(PlainDecoder(process), should_stop)


def refusing(*, should_stop: Callable[[], bool]) -> Engine:
    del should_stop
    raise ModelError("no weights", hint="find some")


def echo(decode: AnswerDecoder, *, should_stop: Callable[[], bool]) -> Engine:
    del should_stop
    return EchoEngine(decode)


def replicas(
    *openings: EngineFactory, window: int = 4, should_stop: Callable[[], bool] = lambda: False
) -> ReplicatedEngine:
    return ReplicatedEngine(
        [(f"place {number}", opening) for number, opening in enumerate(openings)],
        name="echo",
        window=window,
        reason="for a test",
        should_stop=should_stop,
    )


def slow_text(token_ids: Sequence[int]) -> str:
    time.sleep(0.005)
    return ByteTokenizer().decode(token_ids)


def text_of_the_dying(died: Path, token_ids: Sequence[int]) -> str:
    """Text; at the first mark this process creates a file and is killed."""
    text = slow_text(token_ids)
    if MARK in text and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return text


def opener(text: Callable[[Sequence[int]], str], count: int = 2) -> Callable[..., Engine]:
    """For `run`: replicas of echo."""
    opening = partial(echo, PlainDecoder(text))

    def opened(_model: object, *, should_stop: Callable[[], bool], **_others: object) -> Engine:
        return replicas(*[opening] * count, window=16, should_stop=should_stop)

    return opened


class WithChild(Touchy):
    """An engine of a library: it prints, starts a process of its own, and hangs at a certain token."""

    def __init__(self, decode: AnswerDecoder) -> None:
        super().__init__(decode)
        os.write(1, f"{SECRET} on stdout\n".encode())
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            if HANG in request.token_ids:
                time.sleep(600)
            yield from super().generate([request])

    def facts(self) -> Mapping[str, object]:
        return {"child": self.child.pid, "pid": os.getpid(), "printed": captured_output()}

    def close(self) -> None:
        self.child.terminate()
        self.child.wait()


def with_child(*, should_stop: Callable[[], bool]) -> Engine:
    del should_stop
    return WithChild(PlainDecoder(process))


def library_engine(should_stop: Callable[[], bool] = lambda: False) -> ReplicatedEngine:
    return ReplicatedEngine(
        [("", with_child)],
        name="echo",
        window=4,
        reason="for a test",
        should_stop=should_stop,
        library="Fake",
    )
