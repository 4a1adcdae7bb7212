"""How many requests a server gets at once, found while it works."""

import math
from collections.abc import Callable
from time import monotonic

LEAST = 16
"""Requests in flight at the start, unless the server states how many rows it computes at once."""
MOST = 256


class ConcurrencyLimit:
    """The limit of one server.

    It doubles as long as that brings more answers per second. A server that states how many rows it computes at once (`slots`)
    gets twice as many from the start, so that none of them waits for a request. Once the server has refused requests because it
    has too much to do, the limit is halved, and then grows by one for each `limit` answers. Not thread-safe.
    """

    def __init__(
        self,
        fixed: int | None = None,
        clock: Callable[[], float] = monotonic,
        *,
        slots: int | None = None,
    ) -> None:
        self.now = fixed or (min(MOST, 2 * slots) if slots else LEAST)
        self._fixed, self._clock = fixed is not None, clock
        self._answers, self._since = 0, clock()
        self._best_rate = math.inf if slots else 0.0
        self._cut_at: float | None = None

    def add_answer(self) -> None:
        """Count an answer."""
        if self._fixed:
            return
        self._answers += 1
        if self._answers < self.now:
            return
        now = self._clock()
        rate = self._answers / max(now - self._since, 1e-9)
        self._answers, self._since = 0, now
        if self._cut_at is not None:
            self._raise_to(self.now + 1)
        elif rate > 1.1 * self._best_rate:
            self._best_rate = rate
            self._raise_to(2 * self.now)

    def add_refusal(self) -> None:
        """The server has too much to do; the refusals of one second count as one."""
        now = self._clock()
        if self._fixed or (self._cut_at is not None and now - self._cut_at <= 1.0):
            return
        self.now, self._cut_at = max(1, self.now // 2), now
        self._answers, self._since = 0, now

    def _raise_to(self, limit: int) -> None:
        self.now = min(MOST, limit)
