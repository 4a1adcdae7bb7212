"""What a run tells while it works: a bar on a terminal, one plain line a minute elsewhere, or nothing.

Only counts and speeds: never text of a row.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 60.0


class RunProgress(Protocol):
    """Listens to a run."""

    def rows(self, done: int, *, new_tokens: int, failed: int) -> None:
        """More output rows are there; `failed` of them without an answer."""

    def say(self, text: str) -> None:
        """A sentence for the user."""


class SilentProgress:
    """Tells nothing: `--quiet`, and Python callers."""

    def rows(self, done: int, *, new_tokens: int, failed: int) -> None:
        """Count nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""


@dataclass(slots=True)
class _Totals:
    rows: int = 0
    tokens: int = 0
    failed: int = 0

    def add(self, rows: int, tokens: int, failed: int) -> None:
        self.rows += rows
        self.tokens += tokens
        self.failed += failed


class ProgressBar:
    """A tqdm bar."""

    def __init__(self, name: str, total: int, already: int, stream: TextIO) -> None:
        self._bar = tqdm(
            desc=name, total=total, initial=already, unit="row", file=stream, dynamic_ncols=True
        )
        self._totals = _Totals()
        self._started = time.monotonic()

    def rows(self, done: int, *, new_tokens: int, failed: int) -> None:
        """Move the bar."""
        self._totals.add(done, new_tokens, failed)
        seconds = max(time.monotonic() - self._started, 1e-9)
        words = {"tok/s": f"{self._totals.tokens / seconds:,.0f}"}
        if self._totals.failed:
            words["failed"] = str(self._totals.failed)
        self._bar.set_postfix(words, refresh=False)
        self._bar.update(done)

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._bar.write(text, file=self._bar.fp)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class ProgressLines:
    """One line a minute, for logs."""

    def __init__(
        self,
        name: str,
        total: int,
        already: int,
        *,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._total, self._already = name, total, already
        self._stream, self._clock = stream, clock
        self._totals = _Totals()
        self._started = self._spoken = clock()

    def rows(self, done: int, *, new_tokens: int, failed: int) -> None:
        """Count, and speak if a minute has passed."""
        self._totals.add(done, new_tokens, failed)
        now = self._clock()
        if now - self._spoken < SECONDS_BETWEEN_LINES:
            return
        self._spoken = now
        seconds = max(now - self._started, 1e-9)
        rate = self._totals.rows / seconds
        at = self._already + self._totals.rows
        left = (self._total - at) / rate if rate else 0
        self.say(
            f"{at:,}/{self._total:,} rows {at / max(self._total, 1):.0%} · {rate:.1f} rows/s · "
            f"{self._totals.tokens / seconds:,.0f} tok/s · about {left / 60:.0f} min left · "
            f"{self._totals.failed} failed"
        )

    def say(self, text: str) -> None:
        """Print a line with the time and the job's name."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._stream.write(f"{now} {self._name} {text}\n")
        self._stream.flush()


@contextmanager
def silent_progress(_name: str, _total: int, _already: int) -> Iterator[RunProgress]:
    """No progress at all."""
    yield SilentProgress()


@contextmanager
def show_progress(
    name: str, total: int, already: int, stream: TextIO | None = None
) -> Iterator[RunProgress]:
    """A bar if the stream (stderr, if none is given) is a terminal, lines otherwise."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield ProgressLines(name, total, already, stream=stream)
        return
    bar = ProgressBar(name, total, already, stream)
    try:
        yield bar
    finally:
        bar.close()
