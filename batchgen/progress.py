"""Messages and progress of a long operation: bars on a terminal, otherwise a line a minute. Never text of a row."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, Never, TextIO

from tqdm import tqdm

Clock = Callable[[], float]
LINE_EVERY_SECONDS = 60.0


class StepProgress:
    """Progress of one step, such as a download; this one shows nothing."""

    def reached(self, amount: int, note: str = "") -> None:
        """Show that `amount` of the total is done, in all, and a note on what is next."""


class RowProgress:
    """Progress of a run in output rows; this one shows nothing."""

    def add(self, rows: int, *, new_tokens: int = 0, failed: int = 0) -> None:
        """Count finished output rows; `failed` of them have no answer."""


class Reporter:
    """Receives the messages and the progress of an operation. This one discards them; subclasses show them."""

    draws_bars = False
    """Whether progress is drawn on a terminal, so that other programs may draw there too."""

    def info(self, text: str) -> None:
        """One line for the user."""

    @contextmanager
    def step(self, title: str, total: int, unit: Literal["B", "step"]) -> Iterator[StepProgress]:
        """Open the progress of a step from 0 to `total`."""
        del title, total, unit
        yield StepProgress()

    @contextmanager
    def rows(self, name: str, total: int, done: int) -> Iterator[RowProgress]:
        """Open the progress of the job `name`: `total` output rows, of which `done` are already finished."""
        del name, total, done
        yield RowProgress()


SILENT = Reporter()


class ConsoleReporter(Reporter):
    """Prints messages as lines of a stream; draws bars if the stream is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.draws_bars = stream.isatty()

    def info(self, text: str) -> None:
        # Above the bars that are drawn now, if there are any.
        tqdm.write(text, file=self._stream)
        self._stream.flush()

    @contextmanager
    def step(self, title: str, total: int, unit: Literal["B", "step"]) -> Iterator[StepProgress]:
        if not self.draws_bars:
            self.info(title)
            yield StepLines(title, total, self)
            return
        with self._bar(title, total, unit=unit, unit_scale=unit == "B", leave=False) as bar:
            yield StepBar(bar, total)

    @contextmanager
    def rows(self, name: str, total: int, done: int) -> Iterator[RowProgress]:
        if not self.draws_bars:
            yield RowLines(name, total, done, stream=self._stream)
            return
        with self._bar(name, total, unit="row", initial=done) as bar:
            yield RowBar(bar)

    def _bar(self, title: str, total: int, **options: Any) -> "tqdm[Never]":  # noqa: ANN401  # of tqdm
        return tqdm(desc=title, total=total, file=self._stream, dynamic_ncols=True, **options)


class StepBar(StepProgress):
    """A tqdm bar for a step."""

    def __init__(self, bar: "tqdm[Never]", total: int) -> None:
        self._bar = bar
        self._total = total

    def reached(self, amount: int, note: str = "") -> None:
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(max(0, min(amount, self._total) - self._bar.n))
        self._bar.refresh()


class StepLines(StepProgress):
    """A line a minute for a step."""

    def __init__(self, title: str, total: int, reporter: Reporter) -> None:
        self._title = title
        self._total = total
        self._reporter = reporter
        self._line_at = time.monotonic() + LINE_EVERY_SECONDS

    def reached(self, amount: int, note: str = "") -> None:
        del note
        if time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_SECONDS
            self._reporter.info(f"{self._title}: {amount / self._total:.0%}")


class RowBar(RowProgress):
    """A tqdm bar for a run."""

    def __init__(self, bar: "tqdm[Never]") -> None:
        self._bar = bar
        self._tokens = self._failed = 0
        self._started = time.monotonic()

    def add(self, rows: int, *, new_tokens: int = 0, failed: int = 0) -> None:
        self._tokens += new_tokens
        self._failed += failed
        seconds = max(time.monotonic() - self._started, 1e-9)
        words = {"tok/s": f"{self._tokens / seconds:,.0f}"}
        if self._failed:
            words["failed"] = str(self._failed)
        self._bar.set_postfix(words, refresh=False)
        self._bar.update(rows)


class RowLines(RowProgress):
    """A line a minute for a run, with the time and the job's name."""

    def __init__(
        self, name: str, total: int, done: int, *, stream: TextIO, clock: Clock = time.monotonic
    ) -> None:
        self._name, self._total, self._done = name, total, done
        self._stream, self._clock = stream, clock
        self._rows = self._tokens = self._failed = 0
        self._started = self._printed_at = clock()

    def add(self, rows: int, *, new_tokens: int = 0, failed: int = 0) -> None:
        self._rows += rows
        self._tokens += new_tokens
        self._failed += failed
        now = self._clock()
        if now - self._printed_at < LINE_EVERY_SECONDS:
            return
        self._printed_at = now
        seconds = max(now - self._started, 1e-9)
        rate = self._rows / seconds
        finished = self._done + self._rows
        left = (self._total - finished) / rate if rate else 0
        time_of_day = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._stream.write(
            f"{time_of_day} {self._name} {finished:,}/{self._total:,} rows "
            f"{finished / max(self._total, 1):.0%} · {rate:.1f} rows/s · "
            f"{self._tokens / seconds:,.0f} tok/s · about {left / 60:.0f} min left · "
            f"{self._failed} failed\n"
        )
        self._stream.flush()
