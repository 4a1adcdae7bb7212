"""An engine made of replicas: processes that each load the same model, one per GPU.

    requests ──window──> a replica with capacity ──> completions, in the order in which they finish

Each replica schedules its own rows and pulls from one stream of requests; the stream and all saved state stay in this
process. An answer does not depend on the replica: random numbers come from the request's own seed. The protocol is in
`worker.py`.
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
from batchgen.engines.process_death import describe_death
from batchgen.engines.replicas.worker import EngineCommand, PipeMessage
from batchgen.errors import BatchgenError, DeathError, ResourceError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.kv_cache_plan import Workers
from batchgen.planning.required_flops import utilization_share
from batchgen.records import Completion, Continuation, InFlight, Likelihood, Request

WINDOW = 256
"""Most requests that a replica pulls at once: enough to keep a GPU busy; more would leave other replicas idle at the end."""
_POLL_SECONDS = 0.2
"""Longest wait for a message before `should_stop` is called again."""
_END_SECONDS = 5.0
"""Time for a replica to exit by itself before it is killed; a step may take longer."""
_TOTALS = ("useful_tokens", "computed_tokens", "useful_flop", "peak_flop_per_second")

EngineFactory = Callable[..., Engine]
"""Opens an engine; called with `should_stop`. Must be picklable."""


@dataclass(frozen=True, slots=True)
class _Replica:
    """A process and its pipe; `device` names it in errors."""

    device: str
    process: "subprocess.Popen[bytes]"
    pipe: Connection

    def send(self, message: object) -> None:
        """Send a message. If the process has died, the next `receive` raises the reason."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def receive(self) -> Any:  # noqa: ANN401  depends on the command sent before
        """Wait for the next message. Raises the error of its engine, or DeathError if the process has died."""
        try:
            message = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise DeathError(
                f"the worker process {self.process.pid} on {self.device} {self._death()}",
                hint="Run the same command again. If it happens again, lower batching.memory_fraction or run.workers: "
                "each worker loads its own copy of the model into host memory first.",
            ) from error
        if isinstance(message, BatchgenError):
            raise type(message)(f"on {self.device}: {message.message}", hint=message.hint)
        return message

    def _death(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)
        return describe_death(self.process.returncode)


class ReplicatedEngine:
    """Distributes requests over replicas and yields their completions."""

    def __init__(
        self,
        openings: Sequence[tuple[str, EngineFactory]],
        *,
        name: str,
        window: int,
        reason: str,
        should_stop: Callable[[], bool],
    ) -> None:
        """Start all processes, and wait until each has loaded its model.

        Args:
            openings: device and engine factory of each replica.
            name: the value of `model.engine`.
            window: most requests that a replica pulls at once.
            reason: for this number of replicas, for the facts.
            should_stop: called between messages.
        """
        self.name = name
        self._window = window
        self._reason = reason
        self._should_stop = should_stop
        self._seconds = 0.0
        self._pulled = 0
        self._replicas: list[_Replica] = []
        try:
            for device, opening in openings:
                self._replicas.append(_start(device))
                self._replicas[-1].send(opening)
            for one in self._replicas:
                one.receive()
        except BaseException:
            self.close()
            raise

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        begin = time.perf_counter()
        try:
            yield from self._run("generate", requests)
        finally:
            self._seconds += time.perf_counter() - begin

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        return self._run("likelihoods", continuations)

    def in_flight(self) -> InFlight:
        """The requests that replicas have pulled; their new tokens are counted when they arrive."""
        return InFlight(self._pulled)

    def facts(self) -> Mapping[str, object]:
        """Texts and flags of all replicas merged, the utilization of all together, and the facts of each."""
        for one in self._replicas:
            one.send("facts")
        each = [one.receive() for one in self._replicas]
        return {
            **_merged(each),
            "workers": len(each),
            "workers_reason": self._reason,
            **_utilization(each, self._seconds),
            "each": each,
        }

    def close(self) -> None:
        """Stop the processes; kill those that do not exit in time."""
        for one in self._replicas:
            one.pipe.close()
        for one in self._replicas:
            try:
                one.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
        self._replicas = []

    def _run(self, command: EngineCommand, items: Iterable[Any]) -> Iterator[Any]:
        self._pulled = 0
        busy = list(self._replicas)
        for one in busy:
            one.send(command)
        try:
            yield from self._results(busy, iter(items))
        except (GeneratorExit, Exception):
            # The caller stopped, or `items` raised: the remaining replicas become ready for the next call.
            _stop(busy)
            raise
        _stop(busy)

    def _results(self, busy: list[_Replica], items: Iterator[Any]) -> Iterator[Any]:
        """Yield all results; a replica that is done or has failed is removed from `busy`."""
        while busy and not self._should_stop():
            ready = wait([one.pipe for one in busy], _POLL_SECONDS)
            for one in [one for one in busy if one.pipe in ready]:
                try:
                    message = one.receive()
                except BatchgenError:
                    busy.remove(one)
                    raise
                if message is PipeMessage.MORE:
                    window = list(islice(items, self._window))
                    self._pulled += len(window)
                    one.send(window)
                elif message is PipeMessage.DONE:
                    busy.remove(one)
                else:
                    self._pulled -= 1
                    yield message


def open_replicas(
    workers: Workers,
    model: ModelSpec,
    opening: EngineFactory,
    *,
    batching: Batching,
    should_stop: Callable[[], bool],
) -> ReplicatedEngine:
    """Open a replica on each GPU; `opening` is called with a model section, `batching` and `should_stop`."""
    # A replica sorts and schedules what it pulls at once.
    window = min(WINDOW, batching.part_rows)
    each = batching.model_copy(update={"part_rows": window})
    openings = [
        (one, partial(opening, model.model_copy(update={"device": one}), batching=each))
        for one in workers.gpus
    ]
    return ReplicatedEngine(
        openings, name=model.engine, window=window, reason=workers.reason, should_stop=should_stop
    )


def _start(device: str) -> _Replica:
    """Start a process that waits for its engine factory."""
    here, there = Pipe()
    serve = f"from batchgen.engines.replicas.worker import serve; serve({there.fileno()})"
    # A terminal sends signals to the whole process group: the parent handles them and sends STOP.
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
            f"cannot start a worker process for {device}: {error.strerror}",
            hint="Set run.workers: 1, which needs no worker process.",
        ) from error
    finally:
        pthread_sigmask(SIG_SETMASK, before)
        there.close()
    return _Replica(device, process, here)


def _stop(busy: Sequence[_Replica]) -> None:
    """Stop replicas at their next step, and discard what they send until then."""
    for one in busy:
        one.send(PipeMessage.STOP)
    for one in busy:
        while one.receive() is not PipeMessage.DONE:
            pass


def _merged(each: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """Texts joined where they differ, flags that hold for all. Numbers are left to `each`."""
    merged: dict[str, object] = {}
    for name, value in each[0].items():
        values = [one[name] for one in each if name in one]
        if isinstance(value, str):
            merged[name] = "; ".join(dict.fromkeys(values))
        elif isinstance(value, bool):
            merged[name] = all(values)
    return merged


def _utilization(each: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, object]:
    """Utilization of all replicas together, as the meter of one reports it; empty if one reports none."""
    if any(name not in one for name in _TOTALS for one in each):
        return {}
    total: Mapping[str, Any] = {name: sum(one[name] for one in each) for name in _TOTALS}
    possible = seconds * total["peak_flop_per_second"]
    computed = total["computed_tokens"]
    shares = {
        "mfu": utilization_share(total["useful_flop"], possible),
        "useful_token_share": total["useful_tokens"] / computed if computed else None,
    }
    rounded = {name: None if s is None else round(s, 4) for name, s in shares.items()}
    return {**rounded, **total}
