"""An engine made of replicas: processes that each load the same model, one per GPU; or one process, for an engine of a library.

    requests ──window──> a replica with capacity ──> completions, in the order in which they finish

Each replica schedules its own rows and pulls from one stream of requests; the stream and all saved state stay in this
process. An answer does not depend on the replica: random numbers come from the request's own seed. The protocol is in
`worker.py`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from typing import Any

from batchgen.engines.contract import Engine
from batchgen.engines.replicas.replica_process import ReplicaProcess, start_replica
from batchgen.engines.replicas.worker import EngineCommand, PipeMessage
from batchgen.errors import BatchgenError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.kv_cache_plan import Workers
from batchgen.planning.required_flops import utilization_share
from batchgen.records import Completion, Continuation, InFlight, Likelihood, Request

WINDOW = 256
"""Most requests that a replica pulls at once: enough to keep a GPU busy; more would leave other replicas idle at the end."""
_POLL_SECONDS = 0.2
"""Longest wait for a message before `should_stop` is called again."""
_TOTALS = ("useful_tokens", "computed_tokens", "useful_flop", "peak_flop_per_second")

EngineFactory = Callable[..., Engine]
"""Opens an engine; called with `should_stop`. Must be picklable."""


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
        library: str = "",
    ) -> None:
        """Start all processes, and wait until each has loaded its model.

        Args:
            openings: device and engine factory of each replica; the device may be empty for the only one.
            name: the value of `model.engine`.
            window: most requests that a replica pulls at once.
            reason: for this number of replicas, for the facts.
            should_stop: called between messages.
            library: whose engine the replicas run, such as vLLM; empty for an engine of batchgen. Its output is captured,
                and its processes end with the replica.
        """
        self.name = name
        self._window = window
        self._reason = reason
        self._should_stop = should_stop
        self._seconds = 0.0
        self._pulled = 0
        self._replicas: list[ReplicaProcess] = []
        self._library = library
        try:
            for device, opening in openings:
                self._replicas.append(start_replica(device, library))
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
        if self._library and len(each) == 1:
            facts: Mapping[str, object] = each[0]
            return facts
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
            one.end()
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

    def _results(self, busy: list[ReplicaProcess], items: Iterator[Any]) -> Iterator[Any]:
        """Yield all results; a replica that is done or has failed is removed from `busy`."""
        while busy and not self._should_stop():
            ready = wait([one.pipe for one in busy], _POLL_SECONDS)
            if not ready:
                for one in busy:
                    one.check_alive()
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


def _stop(busy: Sequence[ReplicaProcess]) -> None:
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
