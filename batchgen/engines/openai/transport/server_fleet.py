"""The servers of a run: which one gets the next request, and how long one that failed is left alone.

    acquire ──> the server with the most room ──> answered | refused | busy | failed ──> release

A server that fails gets one request at a time until it answers again. Rows that it had go to the others. Without one good
answer of any server for `give_up` seconds, the run ends; its rows in flight stay open.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from time import monotonic

from batchgen.engines.openai.transport.base_url import BaseUrl
from batchgen.engines.openai.transport.concurrency_limit import ConcurrencyLimit
from batchgen.engines.openai.transport.retry_policy import FIRST_WAIT, LONGEST_WAIT, backoff
from batchgen.errors import UnavailableError


class FleetStoppedError(Exception):
    """The run ends: no request is sent any more."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        give_up: without one good answer, until the run ends.
        answer: for one answer.
        first, longest: of the time between two tries.
    """

    give_up: float = 600.0
    answer: float = 600.0
    first: float = FIRST_WAIT
    longest: float = LONGEST_WAIT


_STRAY_FAILURES = 2
"""So many failures in a row happen while a server works: it is not left alone."""


@dataclass(slots=True)
class ServerState:
    """One server.

    Attributes:
        is_away: whether it did not answer when the run began.
        failures: in a row.
        free_at: no request is sent before.
        confirmed: whether it is known to offer the model of the run; False after a connection was lost.
        confirmed_at: when, since the run began.
        answered_as: the model that its answers name; empty before the first one.
        fingerprints: the values of `system_fingerprint` in its answers.
    """

    url: BaseUrl
    limit: ConcurrencyLimit
    is_away: InitVar[bool] = False
    busy: int = 0
    failures: int = 0
    free_at: float = 0.0
    answers: int = 0
    confirmed: bool = True
    confirmed_at: float = -math.inf
    answered_as: str = ""
    fingerprints: list[str] = field(default_factory=list)
    confirming: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self, is_away: bool) -> None:
        if is_away:
            self.failures, self.confirmed = _STRAY_FAILURES + 1, False

    @property
    def room(self) -> int:
        return 1 if self.failures > _STRAY_FAILURES else self.limit.now

    def admits(self, now: float) -> bool:
        return self.busy < self.room and now >= self.free_at


def _order(server: ServerState) -> tuple[bool, float, int]:
    """The first server gets the next request; one that fails only gets what the others have no room for."""
    return server.failures > _STRAY_FAILURES, server.busy / server.room, server.answers


@dataclass(slots=True)
class ServerFleet:
    """All servers; thread-safe."""

    servers: Sequence[ServerState]
    patience: Patience
    clock: Callable[[], float] = monotonic
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopped: bool = False
    _failing_since: float | None = None
    _last_good: float = -1.0
    _waiting_since: float = 0.0
    _reason: str = ""

    @property
    def room(self) -> int:
        """How many requests may be in flight at all servers together."""
        with self._changed:
            return sum(server.limit.now for server in self.servers)

    @property
    def busy(self) -> int:
        return sum(server.busy for server in self.servers)

    @property
    def last_good(self) -> float:
        """When the last good answer came, by `clock`."""
        return self._last_good

    def acquire(self) -> ServerState:
        """The server for the next request; waits for one.

        Raises:
            FleetStoppedError: the run ends.
            UnavailableError: there has been no good answer for too long.
        """
        with self._changed:
            while True:
                self._check()
                now = self.clock()
                free = [server for server in self.servers if server.admits(now)]
                if free:
                    chosen = min(free, key=_order)
                    self._waiting_since = self._waiting_since if self.busy else now
                    chosen.busy += 1
                    return chosen
                if not self.busy and self._failing_since is None:
                    self._failing_since = now  # all servers want to be left alone
                waits = [one.free_at - now for one in self.servers if one.free_at > now]
                self._changed.wait(min([0.5, *waits]))

    def release(self, server: ServerState) -> None:
        with self._changed:
            server.busy -= 1
            self._changed.notify()

    def add_answer(self, server: ServerState) -> None:
        """The server has answered, or has refused a single row."""
        with self._changed:
            server.failures = 0
            server.answers += 1
            server.limit.add_answer()
            self._failing_since = None
            self._last_good = self.clock()

    def add_refusal(self, server: ServerState, reason: str, wait: float | None) -> None:
        """The server has too much to do; it is left alone for `wait` seconds, if it gives a number."""
        with self._changed:
            server.limit.add_refusal()
            if wait is not None:
                server.free_at = max(server.free_at, self.clock() + wait)
            self._note(reason)

    def add_failure(
        self,
        server: ServerState,
        reason: str,
        wait: float | None = None,
        *,
        reached: bool,
        sent_at: float | None = None,
    ) -> None:
        """There was no whole answer. `reached`: something had accepted the request; `sent_at`: when, if that was long ago."""
        with self._changed:
            server.failures += 1
            server.confirmed = False
            if wait is None:
                stray = _STRAY_FAILURES if reached else 0
                first, longest = self.patience.first, self.patience.longest
                grown = server.failures - stray
                wait = backoff(grown, first=first, longest=longest) if grown > 0 else 0.0
            if not reached:
                server.failures = max(server.failures, _STRAY_FAILURES + 1)
            server.free_at = max(server.free_at, self.clock() + wait)
            self._note(reason, None if sent_at is None else max(sent_at, self._last_good))

    def add_broken(self, reason: str) -> None:
        """A server has failed at one row."""
        with self._changed:
            self._note(reason)

    def sleep(self, seconds: float) -> None:
        """Wait; raises as `acquire` does."""
        until = self.clock() + seconds
        with self._changed:
            while (left := until - self.clock()) > 0:
                self._check()
                self._changed.wait(min(left, 0.5))
            self._check()

    def check_silence(self) -> None:
        """Raise UnavailableError if requests are in flight and no answer has come for too long, though none has failed."""
        with self._changed:
            since = max(self._waiting_since, self._last_good)
            if self.busy and (gone := self.clock() - since) > self.patience.give_up:
                raise self._unavailable(gone)

    def stop(self) -> None:
        """Have all waiting threads end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _note(self, reason: str, since: float | None = None) -> None:
        self._reason = reason
        if self._failing_since is None:
            self._failing_since = self.clock() if since is None else since

    def _check(self) -> None:
        if self._stopped:
            raise FleetStoppedError
        since = self._failing_since
        if since is not None and (gone := self.clock() - since) > self.patience.give_up:
            raise self._unavailable(gone)

    def _unavailable(self, gone: float) -> UnavailableError:
        names = ", ".join(str(server.url) for server in self.servers)
        why = self._reason or "no reply to the requests in flight"
        return UnavailableError(
            f"{names}: no good answer for {gone:,.0f} s ({why}); finished rows are saved",
            hint="Start the server again, then repeat the same command: the run continues.",
        )
