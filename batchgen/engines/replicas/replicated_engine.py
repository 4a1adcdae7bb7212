"""Several engines with the same model, each in a process of its own: one a GPU. Together they are an engine.

    requests ──window──> whoever has room ──> completions, as they come

Each loads the model, schedules and answers by itself, and pulls from the one stream of requests, which stays here with all
that is saved. An answer does not depend on who gives it: random numbers are drawn from a request's own seed. How a
replica is talked to is in `worker.py`. Knows nothing of devices and models.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask
from typing import Any

from batchgen.engines.contract import Engine
from batchgen.engines.replicas.worker import EngineCommand, PipeMessage
from batchgen.errors import BatchgenError, DeathError, ResourceError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.slot_plan import Workers
from batchgen.records import Completion, Continuation, Likelihood, Request

WINDOW = 256
"""Most requests that a replica takes at once: they keep a GPU busy, and more would be missing elsewhere at the end."""
_LISTEN_SECONDS = 0.2
"""Between two looks at whether to stop, while nobody says anything."""
_END_SECONDS = 5.0
"""For a replica to end by itself; a step may last longer."""
_TOTALS = ("useful_tokens", "computed_tokens", "useful_flop", "peak_flop_per_second")

EngineFactory = Callable[..., Engine]
"""Opens an engine, given `should_stop`. Is pickled."""


@dataclass(frozen=True, slots=True)
class _Replica:
    """A process, and what its errors say it computes on."""

    place: str
    process: "subprocess.Popen[bytes]"
    pipe: Connection

    def tell(self, said: object) -> None:
        """Say something to it."""
        # If it has died, it may have said why: `hear` finds out.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(said)

    def hear(self) -> Any:  # noqa: ANN401  what is said depends on what was asked
        """What it says next.

        Raises:
            BatchgenError: it failed.
            DeathError: it has died.
        """
        try:
            said = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise DeathError(
                f"process {self.process.pid}, which answered rows on {self.place}, has died",
                hint="run the same command again; if it happens again, a lower batching.memory_fraction, "
                "or fewer run.workers: each loads the model through the memory of this machine",
            ) from error
        if isinstance(said, BatchgenError):
            raise type(said)(f"on {self.place}: {said.message}", hint=said.hint)
        return said


class ReplicatedEngine:
    """Hands requests to replicas and their answers on."""

    def __init__(
        self,
        openings: Sequence[tuple[str, EngineFactory]],
        *,
        name: str,
        window: int,
        why: str,
        should_stop: Callable[[], bool],
    ) -> None:
        """Start all, and wait until each has loaded its model.

        Args:
            openings: of each replica: what it computes on, and what opens its engine.
            name: of the engine in the job file.
            window: most requests that one takes at once.
            why: there are so many.
            should_stop: asked often.

        Raises:
            BatchgenError: an engine could not be opened.
            DeathError: a replica has died.
        """
        self.name = name
        self._window = window
        self._why = why
        self._should_stop = should_stop
        self._seconds = 0.0
        self._replicas: list[_Replica] = []
        try:
            for place, opening in openings:
                self._replicas.append(_start(place))
                self._replicas[-1].tell(opening)
            for one in self._replicas:
                one.hear()
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer all requests; see `Engine`.

        Raises:
            DeathError: a replica has died.
        """
        begin = time.perf_counter()
        try:
            yield from self._ask("generate", requests)
        finally:
            self._seconds += time.perf_counter() - begin

    def likelihoods(self, asked: Iterable[Continuation]) -> Iterator[Likelihood]:
        """How likely each continuation is; see `Engine`.

        Raises:
            DeathError: a replica has died.
        """
        return self._ask("likelihoods", asked)

    def facts(self) -> Mapping[str, object]:
        """The words of all, each said once, how well they used the machine together, and the facts of each."""
        for one in self._replicas:
            one.tell("facts")
        each = [one.hear() for one in self._replicas]
        return {
            **_words(each),
            "workers": len(each),
            "workers_reason": self._why,
            **_utilization(each, self._seconds),
            "each": each,
        }

    def close(self) -> None:
        """End the processes."""
        for one in self._replicas:
            one.pipe.close()
        for one in self._replicas:
            try:
                one.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        self._replicas = []

    def _ask(self, verb: EngineCommand, asked: Iterable[Any]) -> Iterator[Any]:
        busy = list(self._replicas)
        for one in busy:
            one.tell(verb)
        try:
            yield from self._answers(busy, iter(asked))
        except (GeneratorExit, Exception):
            # Nobody wants more, or what is asked broke off: whoever is left is ready for the next call.
            _stop(busy)
            raise
        _stop(busy)

    def _answers(self, busy: list[_Replica], asked: Iterator[Any]) -> Iterator[Any]:
        """All answers; whoever has nothing more to do, or has ended, leaves `busy`."""
        while busy and not self._should_stop():
            for one in _readable(busy):
                said = _receive(one, busy)
                if said is PipeMessage.MORE:
                    one.tell(list(islice(asked, self._window)))
                elif said is PipeMessage.DONE:
                    busy.remove(one)
                else:
                    yield said


def open_replicas(
    workers: Workers,
    model: ModelSpec,
    opening: EngineFactory,
    *,
    batching: Batching,
    should_stop: Callable[[], bool],
) -> ReplicatedEngine:
    """A replica on each GPU.

    Args:
        workers: say which.
        model: the job's section.
        opening: opens an engine, given a model's section and `batching` as well.
        batching: of each replica.
        should_stop: asked often.

    Raises:
        BatchgenError: an engine could not be opened.
    """
    # What a replica takes at once is also what it looks at together.
    window = min(WINDOW, batching.part_rows)
    each = batching.model_copy(update={"part_rows": window})
    openings = [
        (one, partial(opening, model.model_copy(update={"device": one}), batching=each))
        for one in workers.gpus
    ]
    return ReplicatedEngine(
        openings, name=model.engine, window=window, why=workers.reason, should_stop=should_stop
    )


def _start(place: str) -> _Replica:
    """A process that waits to be told which engine to open."""
    here, there = Pipe()
    serve = f"from batchgen.engines.replicas.worker import serve; serve({there.fileno()})"
    # Signals go to the whole group of a terminal: the parent hears them, and says when to stop.
    before = pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM, SIGHUP})
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", serve],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # stdout is for results
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    except OSError as error:
        here.close()
        raise ResourceError(
            f"no process can be started that answers rows on {place}: {error.strerror}",
            hint="run.workers: 1 needs none",
        ) from error
    finally:
        pthread_sigmask(SIG_SETMASK, before)
        there.close()
    return _Replica(place, process, here)


def _readable(busy: Sequence[_Replica]) -> list[_Replica]:
    """Those that have something to say."""
    ready = wait([one.pipe for one in busy], _LISTEN_SECONDS)
    return [one for one in busy if one.pipe in ready]


def _receive(one: _Replica, busy: list[_Replica]) -> Any:  # noqa: ANN401  see `_Replica.hear`
    try:
        return one.hear()
    except BatchgenError:
        busy.remove(one)
        raise


def _stop(busy: Sequence[_Replica]) -> None:
    """Have them answer nothing more; what they say meanwhile is given up."""
    for one in busy:
        one.tell(PipeMessage.STOP)
    for one in busy:
        while one.hear() is not PipeMessage.DONE:
            pass


def _words(each: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """What is said in words, such as the device; several answers where they differ. Numbers are each one's own."""
    found: dict[str, object] = {}
    for name, value in each[0].items():
        said = [one[name] for one in each if name in one]
        if isinstance(value, str):
            found[name] = "; ".join(dict.fromkeys(said))
        elif isinstance(value, bool):
            found[name] = all(said)
    return found


def _utilization(each: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, object]:
    """How well all together used the machine, as `Meter` says it of one; nothing if one does not say it."""
    if any(name not in one for name in _TOTALS for one in each):
        return {}
    total: Mapping[str, Any] = {name: sum(one[name] for one in each) for name in _TOTALS}
    possible = seconds * total["peak_flop_per_second"]
    shares = {
        "mfu": (total["useful_flop"], possible),
        "useful_token_share": (total["useful_tokens"], total["computed_tokens"]),
    }
    found = {name: round(part / of, 4) if of else None for name, (part, of) in shares.items()}
    return {**found, **total}
