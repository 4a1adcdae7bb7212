"""When a run has to stop by itself: after a time, or at a time of the day.

Counted by the monotonic clock from the start on, so that a clock that is set, or summer time, moves nothing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as time_of_day


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment, by `time.monotonic`, and what set it, for people."""

    at: float
    reason: str

    def __call__(self) -> bool:
        """Whether it is over."""
        return time.monotonic() >= self.at


def after(seconds: float, reason: str) -> Deadline:
    """The deadline that is so far from now."""
    return Deadline(time.monotonic() + seconds, reason)


def until(clock: time_of_day, now: datetime) -> Deadline:
    """The deadline at the next time that local clocks show `clock`; `now` has a time zone."""
    local = now.astimezone().replace(tzinfo=None)
    day = local.date() if clock > local.time() else local.date() + timedelta(days=1)
    moment = datetime.combine(day, clock).astimezone()
    return after((moment - now).total_seconds(), f"it is {clock:%H:%M}")


@dataclass(frozen=True, slots=True)
class Stop:
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
