"""When a run has to stop by itself: after a time, or at a time of the day.

Counted by the monotonic clock from the start on, so that a clock that is set, or summer time, moves nothing.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day
from types import FrameType


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, by `time.monotonic`, and what set it, for people."""

    at: float
    reason: str

    def __call__(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self.at


def deadline_after(seconds: float, reason: str) -> Deadline:
    """The deadline that is so far from now."""
    return Deadline(time.monotonic() + seconds, reason)


def deadline_at(clock: time_of_day, now: datetime) -> Deadline:
    """The deadline at the next time that local clocks show `clock`; `now` has a time zone."""
    local = now.astimezone().replace(tzinfo=None)
    day = local.date() if clock > local.time() else local.date() + timedelta(days=1)
    moment = datetime.combine(day, clock).astimezone()
    return deadline_after((moment - now).total_seconds(), f"it is {clock:%H:%M}")


@dataclass(frozen=True, slots=True)
class StopCondition:
    """Everything that may ask a run to stop: somebody outside, or one of its deadlines."""

    asked: Callable[[], bool]
    deadlines: Sequence[Deadline]

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.asked() or any(deadline() for deadline in self.deadlines)

    def reason(self) -> str:
        """Which deadline is over, for people; empty if somebody asked."""
        over = (deadline.reason for deadline in self.deadlines if deadline())
        return "" if self.asked() else next(over, "")


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether to stop. Engines ask between steps."""
        return self._signal is not None

    def ask(self, number: signal.Signals) -> None:
        """Ask the run to stop."""
        self._signal = number

    def end_by_signal(self) -> None:
        """End this process by the signal that asked for it; return if there was none."""
        if self._signal is not None:
            signal.signal(self._signal, signal.SIG_DFL)
            os.kill(os.getpid(), self._signal)


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Turn the first signal into a request while the block runs; the next one has its default effect."""
    request = StopRequest()
    heard = [each for each in STOPPING if signal.getsignal(each) != signal.SIG_IGN]

    def on_signal(number: int, _frame: FrameType | None) -> None:
        request.ask(signal.Signals(number))
        # Written past every buffer: a handler may interrupt anything.
        os.write(2, b"\nstopping at the next step; once more to stop at once\n")
        for each in heard:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, on_signal) for each in heard}
    try:
        yield request
    finally:
        if not request():
            for each, handler in before.items():
                signal.signal(each, handler)
