"""What a run has done since its start, and how long the rest takes: counted in tokens, since rows are of different lengths.

Rows are computed longest prompt first and side by side, so that hundreds of them are half done when the first one is finished:
their number does not predict the time that is left.
"""

import time
from collections.abc import Callable
from typing import Literal

from batchgen.records import InFlight

Clock = Callable[[], float]
Count = Callable[[], InFlight]
Unit = Literal["row", "answer"]
"""What a run counts: an answer if each input row has several."""


class RowCounts:
    """Finished rows, tokens of finished rows and of those in flight, and the work that is left."""

    def __init__(
        self, total: int, done: int, in_flight: Count, clock: Clock = time.monotonic
    ) -> None:
        """`total`: output rows, of which `done` were finished before the start."""
        self.total = total
        self._done, self._in_flight, self._clock = done, in_flight, clock
        self._tokens = self._prompt_tokens = self.rows = self.failed = self._answered = 0
        self._begun = self._begun_prompt_tokens = self._begun_most_new = 0
        self.started = clock()

    def begin(self, answers: int, prompt_tokens: int, most_new_tokens: int) -> None:
        """Count requests that are on their way to the engine, with their tokens in total."""
        self._begun += answers
        self._begun_prompt_tokens += prompt_tokens
        self._begun_most_new += most_new_tokens

    def add(self, rows: int, new_tokens: int, failed: int, prompt_tokens: int = 0) -> None:
        """Count finished rows; `prompt_tokens` of those that the engine answered."""
        self.rows += rows
        self._tokens += new_tokens
        self._prompt_tokens += prompt_tokens
        self._answered += rows if prompt_tokens else 0
        self.failed += failed

    @property
    def seconds(self) -> float:
        return max(self._clock() - self.started, 1e-9)

    @property
    def finished(self) -> int:
        """Including the rows that were finished before the start."""
        return self._done + self.rows

    @property
    def seconds_left(self) -> float | None:
        """None until it is known how fast rows are."""
        left = max(0, self.total - self.finished)
        if not left:
            return 0.0
        if not self._begun:  # other processes do the work
            return self.seconds * left / self.rows if self.rows else None
        now = self._in_flight()
        unfinished = max(1, self._begun - self._answered)
        prompt = max(0, self._begun_prompt_tokens - self._prompt_tokens) / unfinished
        computed = self._tokens + now.new_tokens
        # All tokens over the answers that have ended: the maximum-likelihood mean where many have not ended yet.
        most = self._begun_most_new / self._begun
        mean = min(most, computed / self._answered) if self._answered else most
        done = self._prompt_tokens + now.rows * prompt + computed
        rest = max(0, left - now.rows) * prompt + max(0.0, left * mean - now.new_tokens)
        return self.seconds * rest / done if computed else None

    def work(self, unit: Unit) -> list[str]:
        """What is computed: rows in flight, tokens so far and their rate."""
        now = self._in_flight()
        tokens = self._tokens + now.new_tokens
        shown = [f"{now.rows:,} {unit}s in flight"] if now.rows else []
        return [*shown, f"{tokens:,} tokens", f"{tokens / self.seconds:,.0f} tok/s"]
