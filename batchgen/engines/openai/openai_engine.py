"""Rows are answered by servers: this thread pulls requests, one thread for each request in flight waits for its answer.

    generate ──pulls──> jobs ──> RowExchange, one a thread ──HTTP──> servers
       └────────────── results <──────┘

Only the caller's thread touches the requests, which lead to files and the journal.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from batchgen.engines.openai.label_likelihoods import (
    TOP,
    ContinuationGroup,
    group_by_context,
    label_request,
    score_group,
    top_tokens,
)
from batchgen.engines.openai.prompt_likelihoods import WAYS as PROMPT_WAYS
from batchgen.engines.openai.prompt_likelihoods import (
    PromptWay,
    prompt_request,
    read_likelihood,
)
from batchgen.engines.openai.row_exchange import (
    Endpoint,
    RequestCounts,
    RowExchange,
)
from batchgen.engines.openai.transport.server_fleet import FleetStoppedError, ServerFleet
from batchgen.errors import ModelError
from batchgen.records import (
    Completion,
    Continuation,
    Failure,
    InFlight,
    Likelihood,
    Request,
)

NAME = "openai"
_REFUSED_ROWS = 20
"""If so many first rows are all refused, the job is the problem and not the rows."""
_SAMPLE = 16
"""Tokens before a text and of it that are sent to find out how texts are scored: servers refuse a text that is too long."""
_CHECK_SECONDS = 0.2
_IDLE_SECONDS = 0.1

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Raised:
    """What ended a thread."""

    error: BaseException


class OpenaiEngine:
    """Hands requests to servers."""

    name = NAME

    def __init__(
        self,
        endpoint: Endpoint,
        fleet: Callable[[], ServerFleet],
        *,
        facts: Mapping[str, object],
        should_stop: Callable[[], bool],
    ) -> None:
        """`fleet` makes a new one for each call of `generate`."""
        self._endpoint, self._new_fleet = endpoint, fleet
        self._fleet: ServerFleet | None = None
        self._facts, self._should_stop = facts, should_stop
        self._counts = RequestCounts()
        self._most_at_once = 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """As `Engine.generate`.

        Raises:
            ModelError: the servers will accept no row, or have refused all of the first ones.
            UnavailableError: no server has given a good answer for too long.
        """
        answered = self._performed(iter(requests), RowExchange.answer)
        yield from _check_refusals(answered)

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]:
        """As `Engine.likelihoods`; only of labels where the server returns no log-probabilities of prompts.

        Raises:
            ModelError: the servers list no tokens by their ids either, or will accept no request.
            UnavailableError: no server has given a good answer for too long.
        """
        source = iter(continuations)
        first = next(source, None)
        if first is None:
            return
        source, name = chain([first], source), self._endpoint.served_name
        sample = Continuation(first.index, first.context[-_SAMPLE:], first.token_ids[:_SAMPLE])
        if (way := self._find_way(sample)) is not None:

            def read(exchange: RowExchange, one: Continuation) -> Likelihood:
                tokens = [*one.context, *one.token_ids]
                return read_likelihood(one, exchange.fetch(prompt_request(name, tokens, way)), way)

            yield from self._performed(source, read)
            return
        if (top := self._find_top(sample)) is None:
            return

        def score(exchange: RowExchange, group: ContinuationGroup) -> list[Likelihood]:
            return score_group(group, name, top, exchange.fetch)

        for scored in self._performed(group_by_context(source), score):
            yield from scored

    def _find_way(self, one: Continuation) -> PromptWay | None:
        """How the servers return log-probabilities of a prompt; None if they do not."""
        name, tokens = self._endpoint.served_name, [*one.context, *one.token_ids]
        for way in PROMPT_WAYS:
            answer = self._ask(prompt_request(name, tokens, way))
            if answer is not None and read_likelihood(one, answer, way).failure is None:
                return way
        return None

    def _find_top(self, one: Continuation) -> int | None:
        """How many tokens the servers list at each position; None if the run ends first."""
        name = self._endpoint.served_name
        for top in TOP:
            answer = self._ask(label_request(name, one.context, top))
            if answer is None:
                return None
            if not isinstance(answer, Failure) and len(top_tokens(answer)) > 1:
                return top
        raise ModelError(
            f"{name}: the server lists no log-probabilities by token id, which judges and metrics of given texts need",
            hint="Use a server that does, such as vllm serve or llama.cpp, or a local model.",
        )

    def _ask(self, body: bytes) -> dict[str, Any] | Failure | None:
        """The answer to one request; None if the run ends first."""

        def fetch(exchange: RowExchange, one: bytes) -> dict[str, Any] | Failure:
            return exchange.fetch(one)

        return next(self._performed(iter([body]), fetch), None)

    def in_flight(self) -> InFlight:
        return InFlight(self._fleet.busy if self._fleet else 0)

    def facts(self) -> Mapping[str, object]:
        values = self._counts.values
        names = ("requests", "retries", "refused", "prompt_tokens", "completion_tokens")
        return {
            **self._facts,
            **{name: values[name] for name in names},
            "requests_at_once": self._most_at_once,
        }

    def close(self) -> None:
        """Do nothing: connections end with each call of `generate`."""

    def _performed(
        self, source: Iterator[_Job], perform: Callable[[RowExchange, _Job], _Result]
    ) -> Iterator[_Result]:
        """The results of all jobs, in the order in which they end."""
        fleet = self._fleet = self._new_fleet()
        workers = _Workers(self._endpoint, fleet, self._counts, perform)
        in_flight = 0
        try:
            while not self._should_stop():
                room = max(0, fleet.room - in_flight)  # read once: it may grow at any moment
                # After its end, the source may have more: see `Engine.generate`.
                jobs = list(islice(source, room))
                for job in jobs:
                    in_flight += 1
                    workers.submit(job, in_flight)
                if not in_flight and room:
                    return
                self._most_at_once = max(self._most_at_once, in_flight)
                fleet.check_silence()
                for result in workers.result():
                    in_flight -= 1
                    yield result
        finally:
            workers.close()


def _check_refusals(completions: Iterator[Completion]) -> Iterator[Completion]:
    """The same; if the first ones are all refused, they are held back, so that a corrected job generates them again."""
    held: list[Completion] = []
    for completion in completions:
        if completion.failure is not None and completion.failure.code == "request_refused":
            held.append(completion)
            if len(held) < _REFUSED_ROWS:
                continue
            raise ModelError(
                f"the first {len(held)} rows were all refused: {completion.failure.message}",
                hint="Check that the model of the server supports the settings under decoding.",
            )
        yield from (*held, completion)
        yield from completions
        return
    yield from held


class _Workers(Generic[_Job, _Result]):
    """The threads; each ends at the end of the call."""

    def __init__(
        self,
        endpoint: Endpoint,
        fleet: ServerFleet,
        counts: RequestCounts,
        perform: Callable[[RowExchange, _Job], _Result],
    ) -> None:
        self._endpoint, self._fleet, self._counts = endpoint, fleet, counts
        self._perform = perform
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[_Result | _Raised] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._exchanges: list[RowExchange] = []

    def submit(self, job: _Job, in_flight: int) -> None:
        """Have a job done; `in_flight`: jobs without a result, this one included."""
        self._jobs.put(job)
        if len(self._threads) < in_flight:
            exchange = RowExchange(self._endpoint, self._fleet, self._counts)
            thread = threading.Thread(target=self._work, args=(exchange,), daemon=True, name=NAME)
            self._exchanges.append(exchange)
            self._threads.append(thread)
            thread.start()

    def result(self) -> Iterator[_Result]:
        """The next result; none if there is none for a moment. Raises what ended a thread."""
        try:
            found = self._results.get(timeout=_CHECK_SECONDS)
        except queue.Empty:
            return
        if isinstance(found, _Raised):
            raise found.error
        yield found

    def close(self) -> None:
        """End all requests in flight: a server stops when its connection ends."""
        self._fleet.stop()
        for _ in self._threads:
            self._jobs.put(None)
        for exchange in self._exchanges:
            exchange.abort()
        for thread in self._threads:
            thread.join(5.0)  # one that still connects ends with the process

    def _next_job(self, exchange: RowExchange) -> _Job | None:
        """The next job; None at the end. While there is none, no connection stays open: a server may have threads for few."""
        try:
            return self._jobs.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            exchange.close()
            return self._jobs.get()

    def _work(self, exchange: RowExchange) -> None:
        try:
            while (job := self._next_job(exchange)) is not None:
                self._results.put(self._perform(exchange, job))
        except FleetStoppedError:
            return
        except BaseException as error:  # noqa: BLE001  # raised in the caller's thread
            self._results.put(_Raised(error))
        finally:
            exchange.close()
