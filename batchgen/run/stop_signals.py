"""What stops a run early: a signal, a time limit, a time of day, a budget of tokens, or too many failed rows.

While rows are generated, the first SIGINT, SIGTERM or SIGHUP stops the run at the next step, and the second ends the
process at once. Before that, while the model is loaded and probed or another process is waited for, the first ends the
process at once: a run can be killed at any moment and resumed. The process ends by the signal it received, so that
shells, systemd and Slurm see the cause. A signal that is ignored when the process starts stays ignored: `nohup` ignores SIGHUP. Deadlines count
on the monotonic clock, so neither a changed clock nor daylight saving time moves them.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from itertools import takewhile
from types import FrameType
from typing import Any

from batchgen.engines.contract import Engine
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.job.spec import RunSection
from batchgen.records import Completion, Request, Response
from batchgen.section import parse_duration

Generate = Callable[[Iterable[Request]], Iterator[Completion]]
FAILURES_BEFORE_STOP = 50
"""Failed answers before a run stops early: what fails in a smaller run is seen at its end soon enough."""


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


def job_deadlines(section: RunSection, deadlines: Sequence[Deadline]) -> Sequence[Deadline]:
    """The deadlines, and that of `run.max_runtime`, counted from now."""
    if (limit := section.max_runtime) is None:
        return deadlines
    reason = f"run.max_runtime ({limit}) is over"
    return [*deadlines, deadline_after(parse_duration(limit), reason)]


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


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """Largest number of failed answers among `answers`, by both limits of the job's section `run`."""

    section: RunSection
    answers: int

    @property
    def allowed(self) -> int:
        # Decimal, as written in the job: 0.29 * 100 is 28.999... in binary.
        by_rate = math.floor(Decimal(str(self.section.max_error_rate)) * self.answers)
        count = self.section.max_error_count
        return by_rate if count is None else min(by_rate, count)

    @property
    def key(self) -> str:
        """The stricter of the two limits, such as `run.max_error_rate: 0.01`."""
        if self.allowed == self.section.max_error_count:
            return f"run.max_error_count: {self.section.max_error_count}"
        return f"run.max_error_rate: {self.section.max_error_rate}"


@dataclass(slots=True)
class FailureWatch:
    """Counts failed answers while a run generates: whether so many fail that the rest is not worth generating.

    Attributes:
        limit: of the whole run.
        failed: failed answers so far, with those of earlier starts.
    """

    limit: FailureLimit
    failed: int
    _first_codes: list[str] = field(default_factory=list)
    _has_answer: bool = False

    def add(self, response: Response) -> None:
        """Count a response of the engine."""
        failed = response.finish_reason == "error"
        self.failed += failed
        if not failed:
            self._has_answer = True
        elif response.failure is not None and len(self._first_codes) < FAILURES_BEFORE_STOP:
            self._first_codes.append(response.failure.code)

    def add_unsendable(self, responses: Sequence[Response], *, whole_part: bool) -> None:
        """Count the failed responses of a part that never reach the engine.

        They are found before the part's other rows are generated, so they are the first rows only if there are no others.
        """
        failed = [r.failure.code for r in responses if r.failure and r.finish_reason == "error"]
        self.failed += len(failed)
        if whole_part:
            self._first_codes += failed

    @property
    def reason(self) -> str:
        """Why the run stops; empty if it does not."""
        if self.failed < FAILURES_BEFORE_STOP:
            return ""
        allowed, total = self.limit.allowed, self.limit.answers
        if self.failed > allowed:
            return f"{self.failed:,} of {total:,} failed, {allowed:,} allowed ({self.limit.key})"
        first = self._first_codes[:FAILURES_BEFORE_STOP]
        same = len(first) == FAILURES_BEFORE_STOP and len(set(first)) == 1
        if same and not self._has_answer and allowed < total:
            return f"the first {len(first)} failed with the same error, {first[0]}"
        return ""


@dataclass(frozen=True, slots=True)
class _RefusedRequest:
    """A request of `most` tokens that did not fit, and what was used and reserved at that time."""

    most: int
    spent: int
    reserved: int


@dataclass(slots=True)
class TokenBudget:
    """The tokens of prompts and answers of a run, over all of its starts.

    A request is sent if its prompt and an answer of `max_new_tokens` fit into what is left, behind all requests in flight.

    Attributes:
        limit: None for no limit.
        spent: tokens of the answers so far, prompts included.
        whole: limit of the run, of which a shard has a share.
    """

    limit: int | None
    spent: int
    whole: int | None = None
    _reserved: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    _in_flight: int = 0
    _refused: "_RefusedRequest | None" = None

    @property
    def reason(self) -> str:
        """Why the run stops; empty if the budget has not ended it."""
        if self._refused is None:
            return ""
        named = f"run.max_total_tokens ({self.limit:,})"
        if self.whole is not None:
            named = f"this shard's share of run.max_total_tokens ({self.limit:,} of {self.whole:,})"
        return (
            f"{named} is reached: {self.spent:,} tokens are used; "
            f"a request of {self._refused.most:,} did not fit with {self._refused.spent:,} used "
            f"and {self._refused.reserved:,} reserved"
        )

    def limited(self, generate: Generate, requests: Iterable[Request]) -> Iterator[Completion]:
        """The completions of the requests that the budget pays for."""
        if self.limit is None:
            yield from generate(requests)
            return
        completions = generate(takewhile(self._reserve, requests))
        for completion in completions:
            self._settle(completion)
            yield completion

    def _reserve(self, request: Request) -> bool:
        prompt = len(request.token_ids)
        most = prompt + request.decoding.max_new_tokens
        if self.spent + self._in_flight + most > (self.limit or 0):
            self._refused = _RefusedRequest(most, self.spent, self._in_flight)
            return False
        self._reserved[request.index, request.sample] = prompt, most
        self._in_flight += most
        return True

    def _settle(self, completion: Completion) -> None:
        prompt, most = self._reserved.pop((completion.index, completion.sample))
        self._in_flight -= most
        counted = completion.input_tokens
        self.spent += (prompt if counted is None else counted) + completion.new_tokens


@dataclass(slots=True)
class StopRequest:
    """Whether a signal has requested the run to stop, and which. Engines call it between steps."""

    number: signal.Signals | None = None
    handled: Sequence[signal.Signals] = ()

    def __call__(self) -> bool:
        return self.number is not None

    def end_by_signal(self) -> None:
        """End this process by the signal it received; return if there was none."""
        if self.number is not None:
            signal.signal(self.number, signal.SIG_DFL)
            os.kill(os.getpid(), self.number)

    @contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """While the block runs, a signal ends the process at once; after it, the first one is a request.

        For work between which no engine calls this object, such as loading a model. The system ends the process, even in
        the middle of a long call of a library. A request made earlier ends the process here.
        """
        self.end_by_signal()
        for each in self.handled:
            signal.signal(each, signal.SIG_DFL)
        try:
            yield
        finally:
            for each in self.handled:
                signal.signal(each, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.number = signal.Signals(number)
        # Written past every buffer: a handler may interrupt anything.
        with suppress(OSError):  # such as nobody left to read it
            os.write(2, b"\nstopping at the next step; once more to stop at once\n")
        for each in self.handled:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def handle_stop_signals() -> Iterator[StopRequest]:
    """Set how signals stop the run in the block: at once until the first block of `ending_at_once` is over."""
    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handled = [each for each in stopping if signal.getsignal(each) != signal.SIG_IGN]
    request = StopRequest(handled=handled)
    before = {each: signal.signal(each, signal.SIG_DFL) for each in handled}
    try:
        yield request
    finally:
        if not request():
            for each, handler in before.items():
                signal.signal(each, handler)


@dataclass(frozen=True, slots=True)
class InterruptibleOpener:
    """Opens engines in this process; a signal while one opens ends the process at once. Pickled, it is `opener` itself."""

    opener: EngineOpener
    request: StopRequest

    def __call__(self, *arguments: Any, **options: Any) -> Engine:  # noqa: ANN401  # of EngineOpener
        with self.request.ending_at_once():
            return self.opener(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[[EngineOpener], EngineOpener], tuple[EngineOpener]]:
        return _itself, (self.opener,)


def _itself(opener: EngineOpener) -> EngineOpener:
    return opener
