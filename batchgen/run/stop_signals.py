"""What stops a run early: a signal, a time limit, or a time of day.

The first SIGINT, SIGTERM or SIGHUP stops the run at the next step; the second ends the process at once. The process ends by
the signal it received, so that shells, systemd and Slurm see the cause. A signal that is ignored when the process starts
stays ignored: `nohup` ignores SIGHUP. Deadlines count on the monotonic clock, so neither a changed clock nor daylight
saving time moves them.
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
    """A moment, by `time.monotonic`, and the limit that set it, as text for the user."""

    at: float
    reason: str

    def __call__(self) -> bool:
        return time.monotonic() >= self.at


def deadline_after(seconds: float, reason: str) -> Deadline:
    """The deadline `seconds` from now."""
    return Deadline(time.monotonic() + seconds, reason)


def deadline_at(clock: time_of_day, now: datetime) -> Deadline:
    """The deadline at the next time that local clocks show `clock`; `now` has a time zone."""
    local = now.astimezone().replace(tzinfo=None)
    day = local.date() if clock > local.time() else local.date() + timedelta(days=1)
    moment = datetime.combine(day, clock).astimezone()
    return deadline_after((moment - now).total_seconds(), f"it is {clock:%H:%M}")


@dataclass(frozen=True, slots=True)
class StopCondition:
    """Everything that can stop a run early: a request from outside, or a deadline."""

    requested: Callable[[], bool]
    deadlines: Sequence[Deadline]

    def __call__(self) -> bool:
        return self.requested() or any(deadline() for deadline in self.deadlines)

    def reason(self) -> str:
        """The limit of the deadline that has passed; empty after a request."""
        passed = (deadline.reason for deadline in self.deadlines if deadline())
        return "" if self.requested() else next(passed, "")


@dataclass(slots=True)
class StopRequest:
    """Whether a signal has requested the run to stop, and which. Engines call it between steps."""

    number: signal.Signals | None = None

    def __call__(self) -> bool:
        return self.number is not None

    def end_by_signal(self) -> None:
        """End this process by the signal it received; return if there was none."""
        if self.number is not None:
            signal.signal(self.number, signal.SIG_DFL)
            os.kill(os.getpid(), self.number)


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Turn the first signal into a request while the block runs; the next one has its default effect."""
    request = StopRequest()
    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handled = [each for each in stopping if signal.getsignal(each) != signal.SIG_IGN]

    def on_signal(number: int, _frame: FrameType | None) -> None:
        request.number = signal.Signals(number)
        # Written past every buffer: a handler may interrupt anything.
        os.write(2, b"\nstopping at the next step; once more to stop at once\n")
        for each in handled:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, on_signal) for each in handled}
    try:
        yield request
    finally:
        if not request():
            for each, handler in before.items():
                signal.signal(each, handler)
