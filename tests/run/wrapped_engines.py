"""Engines for tests, through the public protocol: one calls a function midway, one crashes at certain rows."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import BatchgenError
from batchgen.jobfile.load import load_job
from batchgen.progress import ConsoleReporter
from batchgen.records import AnswerDecoder, Completion, Continuation, InFlight, Likelihood, Request
from batchgen.run.run import run

MARK = "deadly"


class Wrapped:
    """An engine that delegates to another one."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        return self.inner.generate(requests)

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        return self.inner.likelihoods(continuations)

    def in_flight(self) -> InFlight:
        return self.inner.in_flight()

    def facts(self) -> Mapping[str, object]:
        return self.inner.facts()

    def close(self) -> None:
        self.inner.close()


class Meddling(Wrapped):
    """Runs a callback before it returns the answer with a given number."""

    def __init__(self, inner: Engine, at: int, action: Callable[[], object]) -> None:
        super().__init__(inner)
        self._left, self._action = at, action

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for completion in self.inner.generate(requests):
            if self._left == 0:
                self._action()
            self._left -= 1
            yield completion


def meddling(at: int, action: Callable[[], object]) -> Callable[..., Engine]:
    """An opener for `run`."""
    return lambda model, **others: Meddling(open_engine(model, **others), at, action)


class Deadly(Wrapped):
    """Pulls many requests at once, as continuous batching does, and crashes at one that contains the mark."""

    WINDOW = 2048

    def __init__(self, inner: Engine, decode: Callable[..., str]) -> None:
        super().__init__(inner)
        self._decode = decode

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        window: list[Request] = []
        for request in requests:
            window.append(request)
            if len(window) == self.WINDOW:
                yield from self._answered(window)
                window = []
        yield from self._answered(window)

    def _answered(self, window: list[Request]) -> Iterator[Completion]:
        if any(MARK in self._decode(request.token_ids) for request in window):
            os.kill(os.getpid(), signal.SIGKILL)
        yield from self.inner.generate(window)


def open_deadly(model: Any, *, decode: AnswerDecoder, **others: Any) -> Engine:
    return Deadly(open_engine(model, decode=decode, **others), decode)


def run_deadly(arguments: list[str]) -> int:
    """`batchgen run JOB` with the engine that crashes at certain rows; for a separate process."""
    job, *sets = arguments

    try:
        result = run(
            load_job(Path(job), overrides=sets),
            opener=open_deadly,
            reporter=ConsoleReporter(sys.stdout),
        )
    except BatchgenError as error:
        print(error)  # noqa: T201  # read by the test
        return int(error.exit_code)
    return int(result.exit_code)


class After:
    """A stop request after a number of checks."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0
