"""One row and the servers: the row is sent until there is an answer, a refusal, or proof that the row is the problem."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from threading import Lock
from typing import Any

from batchgen.engines.openai.answer_json import (
    failed,
    has_error_only,
    parse_json,
    read_completion,
    read_usage,
)
from batchgen.engines.openai.request_json import request_body
from batchgen.engines.openai.served_model import NotReadyError
from batchgen.engines.openai.served_watch import ServedWatch, check_answer
from batchgen.engines.openai.transport.http_connection import (
    ConnectionLostError,
    HttpConnection,
    HttpReply,
)
from batchgen.engines.openai.transport.retry_policy import (
    TRIES,
    Verdict,
    backoff,
    fatal_reason,
    judge_reply,
    retry_after,
)
from batchgen.engines.openai.transport.server_fleet import ServerFleet, ServerState
from batchgen.errors import ModelError
from batchgen.records import Completion, Failure, Request


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What all requests have in common.

    Attributes:
        tokens: whether prompts are sent as token ids, instead of messages.
        dialect: the server's fields for the settings that it honors.
        key: of the server; empty for none.
        watch: notices another model; None for none.
    """

    served_name: str
    tokens: bool
    key: str = field(repr=False)
    context: SSLContext | None = None
    dialect: Mapping[str, str] = field(default_factory=dict)
    watch: ServedWatch | None = None

    @property
    def path(self) -> str:
        return "/completions" if self.tokens else "/chat/completions"

    def smallest_request(self) -> bytes:
        """A request that every server answers quickly."""
        prompt = {"prompt": "Hello"} if self.tokens else {"messages": _HELLO}
        length = {self.dialect.get("max_new_tokens", "max_tokens"): 1}
        return json.dumps({"model": self.served_name, **length, **prompt}).encode()


_HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(slots=True)
class RequestCounts:
    """Totals over all rows and threads."""

    values: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def add(self, **counts: int) -> None:
        with self._lock:
            self.values.update(counts)


@dataclass(frozen=True, slots=True)
class _Setback:
    """Why there is no answer yet.

    `may_be_row`: the row may be the cause; `is_away`: something else than the server has probably answered, and the row is
    the cause only if other rows are answered at the same time; `pauses`: the row waits before the next try.
    """

    why: str
    may_be_row: bool
    pauses: bool
    is_away: bool = False


@dataclass(slots=True)
class _AwayCount:
    """The tries of one row that ended with a page, an error of a gateway or the like.

    Only a row that fails again and again while the server answers others is at fault. During an outage all rows fail.
    """

    tries: int = 0
    _proofs: int = 0
    _last: float = 0.0

    def shows_fault(self, now: float, is_row_at_fault: Callable[[float], bool]) -> bool:
        """Count a try; `is_row_at_fault`: whether there was another good answer since a time, or is one now."""
        self.tries += 1
        if self.tries >= TRIES and is_row_at_fault(self._last):
            self._proofs += 1
        self._last = now
        return self._proofs >= _PROOFS


_PROOFS = 3
_SECONDS_CONFIRMED = 1.0
"""No server is restarted sooner; some close a connection after each answer."""


class RowExchange:
    """Sends rows one after another; used by one thread, with a connection of its own to each server."""

    def __init__(self, endpoint: Endpoint, fleet: ServerFleet, counts: RequestCounts) -> None:
        self._endpoint, self._fleet, self._counts = endpoint, fleet, counts
        seconds, key = fleet.patience.answer, endpoint.key
        self._connections = {
            id(server): HttpConnection(server.url, key, seconds, endpoint.context)
            for server in fleet.servers
        }

    def answer(self, request: Request) -> Completion:
        """The completion of a row; raises as `fetch`."""
        one = self._endpoint
        body = request_body(one.served_name, request, one.dialect, tokens=one.tokens)
        answer = self.fetch(body)
        if isinstance(answer, Failure):
            return failed(request, answer.code, answer.message)
        return read_completion(request, answer, seeded="seed" in one.dialect)

    def fetch(self, body: bytes) -> dict[str, Any] | Failure:
        """The JSON of the answer to a request, or why this request has none.

        Raises:
            FleetStoppedError: the run ends first.
            ModelError: the servers will accept no row.
            UnavailableError: no server gives answers.
        """
        patience, failures, pauses, first_failure = self._fleet.patience, 0, 0, 0.0
        away = _AwayCount()
        while True:
            outcome = self._try(body)
            if not isinstance(outcome, _Setback):
                return outcome
            self._fleet.sleep(0)  # raises at the end of the run, which aborts connections
            self._counts.add(retries=1)
            if outcome.may_be_row:
                failures += 1
                first_failure = first_failure or self._fleet.clock()
            if failures >= TRIES and self._is_row_at_fault(first_failure):
                words = f"the server failed {failures} times at this row ({outcome.why})"
                return Failure("server_error", words)
            if outcome.is_away and away.shows_fault(self._fleet.clock(), self._is_row_at_fault):
                words = f"there was no answer to this row in {away.tries} tries ({outcome.why})"
                return Failure("server_error", words)
            if outcome.pauses:
                pauses += 1
                pause = backoff(pauses, first=patience.first, longest=patience.longest)
                self._fleet.sleep(pause)

    def abort(self) -> None:
        """End what this thread waits for; called from another thread."""
        for connection in self._connections.values():
            connection.abort()

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()

    def _try(self, body: bytes) -> "dict[str, Any] | Failure | _Setback":
        server = self._fleet.acquire()
        try:
            if (setback := self._confirm(server)) is not None:
                return setback
            reply = self._send(server, body)
            return reply if isinstance(reply, _Setback) else self._read(server, reply)
        finally:
            self._fleet.release(server)

    def _confirm(self, server: ServerState) -> "_Setback | None":
        """Have a server that may have changed looked at; None if it offers the model of the run."""
        if server.confirmed or self._endpoint.watch is None:
            return None
        try:
            self._endpoint.watch.confirm(server)
        except NotReadyError as error:
            self._fleet.add_failure(server, error.why, reached=error.answers)
            return _Setback(error.why, may_be_row=False, pauses=False)
        return None

    def _send(self, server: ServerState, body: bytes) -> "HttpReply | _Setback":
        self._counts.add(requests=1)
        sent_at, connection = self._fleet.clock(), self._connections[id(server)]
        reopened = connection.reopened
        try:
            reply = connection.send("POST", self._endpoint.path, body)
        except ConnectionLostError as error:
            self._fleet.add_failure(server, error.why, sent_at=sent_at, reached=error.sent)
            return _Setback(error.why, may_be_row=error.sent, pauses=error.sent)
        recent = self._fleet.clock() - server.confirmed_at < _SECONDS_CONFIRMED
        if connection.reopened == reopened or recent:
            return reply
        server.confirmed = (
            False  # it may have been restarted: the reply counts only if it has not changed
        )
        return self._confirm(server) or reply

    def _read(self, server: ServerState, reply: HttpReply) -> "dict[str, Any] | Failure | _Setback":
        verdict, why = judge_reply(reply), f"HTTP {reply.status}"
        answer = parse_json(reply.body) if verdict == "answer" else None
        if verdict == "fatal":
            raise ModelError(
                f"{server.url}: {fatal_reason(reply)}",
                hint="Check base_url, served_name and api_key_env.",
            )
        if verdict == "refused":
            self._fleet.add_answer(server)
            self._counts.add(refused=1)
            return Failure("request_refused", f"the server refused this row with {why}")
        if answer is not None and has_error_only(answer):
            self._fleet.add_broken(why := "an error in place of an answer")
            return _Setback(why, may_be_row=True, pauses=True)
        if answer is not None:
            check_answer(server, answer)
            self._fleet.add_answer(server)
            usage = read_usage(answer)
            self._counts.add(
                prompt_tokens=usage.prompt or 0, completion_tokens=usage.completion or 0
            )
            return answer
        if reply.is_page:
            why = "a page instead of JSON"
        return self._setback(server, verdict, why, retry_after(reply.headers))

    def _setback(
        self, server: ServerState, verdict: Verdict, why: str, wait: float | None
    ) -> "_Setback":
        """Note an answer that is none; `wait` is what the server wants."""
        if verdict == "busy":
            self._fleet.add_refusal(server, why, wait)
            return _Setback(why, may_be_row=False, pauses=wait is None)
        if verdict == "broken":
            self._fleet.add_broken(why)
            return _Setback(why, may_be_row=True, pauses=True)
        self._fleet.add_failure(server, why, wait, reached=True)
        return _Setback(why, may_be_row=False, pauses=True, is_away=True)

    def _is_row_at_fault(self, since: float) -> bool:
        """Whether a server has given a good answer to another row, or gives one now, to a short request."""
        if self._fleet.last_good > since:
            return True
        server = self._fleet.acquire()
        try:
            reply = self._send(server, self._endpoint.smallest_request())
            works = isinstance(reply, HttpReply) and _has_answer(reply)
            if works:
                self._fleet.add_answer(server)
            return works
        finally:
            self._fleet.release(server)


def _has_answer(reply: HttpReply) -> bool:
    """Whether a reply is JSON that answers a request, and not an error or something else with the status of an answer."""
    answer = parse_json(reply.body) if judge_reply(reply) == "answer" else None
    return answer is not None and not has_error_only(answer)
