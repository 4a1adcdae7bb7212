"""Messages and progress of a long operation: bars on a terminal, otherwise lines with the time. Never text of a row.

A thread updates them, so that elapsed time, tokens and rows in flight are shown although no row is finished yet.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from threading import Event, Lock, RLock, Thread, current_thread
from typing import Any, Literal, Never, Self, TextIO

from tqdm import tqdm

from batchgen.records import InFlight
from batchgen.work_left import Clock, Count, RowCounts, Unit

LINE_EVERY_SECONDS = 60.0
FIRST_LINE_SECONDS = 10.0
_UPDATE_SECONDS = 1.0
_ROW_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{left}, {rate_fmt}{postfix}]"
"""As of tqdm, whose own estimate counts rows."""
_WIDE = 100
"""Columns of a terminal with space for rows a second and the number of tokens; tqdm cuts the end of a longer line."""

_updating = Lock()
"""Held while a thread updates what is shown: a process that forks must not inherit a lock of the stream."""
os.register_at_fork(
    before=_updating.acquire, after_in_parent=_updating.release, after_in_child=_updating.release
)


class StepProgress:
    """Progress of one step, such as a download; this one shows nothing."""

    def reached(self, amount: int, note: str = "") -> None:
        """Show that `amount` of the total is done, in all, and a note on what is next."""


class RowProgress:
    """Progress of a run in output rows; this one shows nothing."""

    def begin(self, answers: int, *, prompt_tokens: int, most_new_tokens: int) -> None:
        """Count requests that are on their way to the engine, with their tokens in total."""

    def add(
        self, rows: int, *, new_tokens: int = 0, failed: int = 0, prompt_tokens: int = 0
    ) -> None:
        """Count finished output rows; `failed` of them have no answer, `prompt_tokens` are those of answered prompts."""


class Reporter:
    """Receives the messages and the progress of an operation. This one discards them; subclasses show them."""

    draws_bars = False
    """Whether progress is drawn on a terminal, so that other programs may draw there too."""

    def __enter__(self) -> Self:
        """Begin an operation: from now on, long silence is interrupted."""
        return self

    def __exit__(self, *_error: object) -> None:
        """End the operation."""

    def info(self, text: str) -> None:
        """One line for the user."""

    def begin(self, text: str) -> None:
        """Note what begins now; it is shown only if it takes long."""

    @contextmanager
    def step(self, title: str, total: int, unit: Literal["B", "step"]) -> Iterator[StepProgress]:
        """Open the progress of a step from 0 to `total`."""
        del title, total, unit
        yield StepProgress()

    @contextmanager
    def rows(
        self, name: str, total: int, done: int, *, unit: Unit = "row", in_flight: Count = InFlight
    ) -> Iterator[RowProgress]:
        """Open the progress of the job `name`: `total` output rows, of which `done` are already finished.

        `in_flight` is called about once a second, from another thread.
        """
        del name, total, done, unit, in_flight
        yield RowProgress()


SILENT = Reporter()


class _Bar(tqdm):  # type: ignore[type-arg]  # generic in the stubs only
    """A bar that releases its lock when the stream fails; tqdm's own keeps it, and every other thread waits."""

    monitor_interval = 0  # `_repeated` draws it
    _lock = RLock()  # tqdm's default one is shared with forked processes

    def refresh(self, nolock: bool = False, lock_args: tuple[Any, ...] | None = None) -> None:
        del lock_args
        with nullcontext() if nolock else self._lock:
            super().refresh(nolock=True)


class ConsoleReporter(Reporter):
    """Prints messages as lines of a stream; draws bars if the stream is a terminal."""

    def __init__(self, stream: TextIO, *, clock: Clock = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self.draws_bars, self._open = stream.isatty(), 0
        self._message, self._message_at, self._printed_at = "", clock(), clock()
        self._silence: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        self._silence = _repeated(self.interrupt_silence)
        self._silence.__enter__()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._silence is not None:
            self._silence.__exit__(None, None, None)
            self._silence = None

    def info(self, text: str) -> None:
        self.begin(text)
        self.line(text)

    def begin(self, text: str) -> None:
        self._message, self._message_at = text, self._clock()

    def line(self, text: str) -> None:
        """Print one line, with the time unless the stream is a terminal."""
        self._printed_at = self._clock()
        if self.draws_bars:
            # Above the bars that are drawn now, if there are any.
            _Bar.write(text, file=self._stream)
        else:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._stream.write(f"{now} {text}\n")
        self._stream.flush()

    def interrupt_silence(self) -> None:
        """Repeat what began last if nothing has been shown for a minute."""
        now = self._clock()
        if self._message and not self._open and now - self._printed_at >= LINE_EVERY_SECONDS:
            self.line(f"{format_duration(now - self._message_at)} since: {self._message}")

    @contextmanager
    def step(self, title: str, total: int, unit: Literal["B", "step"]) -> Iterator[StepProgress]:
        if not self.draws_bars:
            self.info(title)
            yield StepLines(title, total, self)
            return
        with self._bar(title, total, unit=unit, unit_scale=unit == "B", leave=False) as bar:
            yield StepBar(bar, total)

    @contextmanager
    def rows(
        self, name: str, total: int, done: int, *, unit: Unit = "row", in_flight: Count = InFlight
    ) -> Iterator[RowProgress]:
        counts = RowCounts(total, done, in_flight, self._clock)
        if not self.draws_bars:
            lines = RowLines(name, counts, unit=unit, reporter=self)
            with self._showing(), _repeated(lines.update):
                yield lines
            return
        shape = _ROW_BAR.replace("{left}", "?")
        with self._bar(name, total, unit=unit, initial=done, bar_format=shape) as drawn:
            bar = RowBar(drawn, counts, unit)
            with _repeated(bar.update):
                yield bar
            bar.update()

    @contextmanager
    def _showing(self) -> Iterator[None]:
        """While the block runs, something else interrupts the silence."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._printed_at = self._clock()

    @contextmanager
    def _bar(self, title: str, total: int, **options: Any) -> "Iterator[tqdm[Never]]":  # noqa: ANN401  # of tqdm
        options = {"desc": title, "total": total, "dynamic_ncols": True, **options}
        with self._showing(), _Bar(file=self._stream, **options) as bar:
            yield bar


@contextmanager
def _repeated(update: Callable[[], None]) -> Iterator[None]:
    """Call `update` once a second from a thread, until the block ends."""
    ended = Event()

    def repeat() -> None:
        while not ended.wait(_UPDATE_SECONDS):
            # Not a plain `with`: the thread that holds the lock may be waiting for this one to end, in a finalizer.
            while not _updating.acquire(timeout=_UPDATE_SECONDS):
                if ended.is_set():
                    return
            try:
                if not ended.is_set():
                    update()
            except OSError:  # the next message raises it where it can be handled
                return
            finally:
                _updating.release()

    thread = Thread(target=repeat, name="batchgen progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread is not current_thread():  # an abandoned operation is finalized in any thread
            thread.join()


def format_duration(seconds: float) -> str:
    """Such as "12 s", "3 min" or "2 h 5 min"."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


class StepBar(StepProgress):
    """A tqdm bar for a step."""

    def __init__(self, bar: "tqdm[Never]", total: int) -> None:
        self._bar, self._total = bar, total

    def reached(self, amount: int, note: str = "") -> None:
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(max(0, min(amount, self._total) - self._bar.n))
        self._bar.refresh()


class StepLines(StepProgress):
    """A line a minute for a step."""

    def __init__(self, title: str, total: int, reporter: Reporter) -> None:
        self._title, self._total, self._reporter = title, total, reporter
        self._line_at = time.monotonic() + LINE_EVERY_SECONDS

    def reached(self, amount: int, note: str = "") -> None:
        del note
        if time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_EVERY_SECONDS
            self._reporter.info(f"{self._title}: {amount / self._total:.0%}")


class RowBar(RowProgress):
    """A tqdm bar for a run."""

    def __init__(self, bar: "tqdm[Never]", counts: RowCounts, unit: Unit) -> None:
        self._bar, self._counts, self._unit = bar, counts, unit

    def begin(self, answers: int, *, prompt_tokens: int, most_new_tokens: int) -> None:
        self._counts.begin(answers, prompt_tokens, most_new_tokens)

    def add(
        self, rows: int, *, new_tokens: int = 0, failed: int = 0, prompt_tokens: int = 0
    ) -> None:
        self._counts.add(rows, new_tokens, failed, prompt_tokens)
        self._bar.update(rows)

    def update(self) -> None:
        """Draw the bar with the elapsed time and what is in flight."""
        failed = [f"{self._counts.failed:,} failed"] if self._counts.failed else []
        *in_flight, tokens, rate = self._counts.work(self._unit)
        wide = shutil.get_terminal_size().columns >= _WIDE
        shown = [*failed, rate, *in_flight, *([tokens] if wide else [])]
        left = self._counts.seconds_left
        remaining = "?" if left is None else tqdm.format_interval(left)
        shape = _ROW_BAR.replace("{left}", remaining)
        self._bar.bar_format = shape if wide else shape.replace(", {rate_fmt}", "")
        self._bar.set_postfix_str(", ".join(shown), refresh=False)
        self._bar.refresh()


class RowLines(RowProgress):
    """Lines for a run, with the time and the job's name: one after ten seconds, then one a minute."""

    def __init__(
        self, name: str, counts: RowCounts, *, unit: Unit, reporter: ConsoleReporter
    ) -> None:
        self._name, self._counts, self._unit = name, counts, unit
        self._reporter, self._line_after = reporter, FIRST_LINE_SECONDS

    def begin(self, answers: int, *, prompt_tokens: int, most_new_tokens: int) -> None:
        self._counts.begin(answers, prompt_tokens, most_new_tokens)

    def add(
        self, rows: int, *, new_tokens: int = 0, failed: int = 0, prompt_tokens: int = 0
    ) -> None:
        self._counts.add(rows, new_tokens, failed, prompt_tokens)

    def update(self) -> None:
        """Print a line if it is time for one."""
        counts, seconds = self._counts, self._counts.seconds
        if seconds < self._line_after:
            return
        self._line_after = (seconds // LINE_EVERY_SECONDS + 1) * LINE_EVERY_SECONDS
        rate = counts.rows / seconds
        done = f"{counts.finished:,}/{counts.total:,} {self._unit}s"
        share = counts.finished / max(counts.total, 1)
        parts = [
            f"{self._name} {done} {share:.0%}",
            format_duration(seconds),
            *counts.work(self._unit),
        ]
        if rate:
            parts.append(f"{rate:.1f} {self._unit}s/s")
        if (left := counts.seconds_left) is not None:
            parts.append(f"about {format_duration(left)} left")
        self._reporter.line(" · ".join([*parts, f"{counts.failed:,} failed"]))
