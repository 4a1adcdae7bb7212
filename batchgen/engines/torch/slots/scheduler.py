"""Who runs next. Plain Python: no tensors, no model, no clock.

    waiting ──admit──> prefilling ──last prompt token──> running ──end──> gone
       ^                                                    |
       └──────────── preempted: pages given back, tokens kept, computed again ──┘

A step is a list of segments: so many tokens of a row, from where its cache ends. Either every segment is one token
(decode), or prompts are computed, in chunks if they are long (prefill). Prefill goes first, unless so few rows have
left that their places are not worth a forward of their own.

Rows of one window are served longest first: memory peaks early, and the long answers do not run alone at the end. A
window is served out before the next one begins, so nobody waits for ever.

A prompt's beginning that many rows share is a `Prefix`: computed once, before its rows or in the same step.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from batchgen.engines.torch.slots.pages import Pages

ExpectedLength = Callable[[int], int]
"""How many new tokens an answer will probably have that may have so many."""


@dataclass(eq=False, slots=True)
class Prefix:
    """The beginning of several prompts.

    Attributes:
        number: tells prefixes apart, from 1.
        token_ids: from the first token of the prompt on.
        users: rows that are not gone yet; nobody else keeps the prefix.
        computed: how many of its tokens have keys and values.
    """

    number: int
    token_ids: Sequence[int]
    users: int = 0
    computed: int = 0

    @property
    def ready(self) -> bool:
        """Whether all of it is computed."""
        return self.computed == len(self.token_ids)


@dataclass(eq=False, slots=True)
class Row:
    """One answer on its way.

    Attributes:
        number: the engine's key, ascending in the order of arrival.
        token_ids: prompt and new tokens; grows.
        prompt: how many of them are the prompt.
        limit: most new tokens.
        prefix: what it shares; its tokens are not in the row's own pages.
        cached: tokens that have keys and values, prefix included.
        pages: of the row's own tokens, in order.
    """

    number: int
    token_ids: list[int]
    prompt: int
    limit: int
    prefix: Prefix | None = None
    cached: int = 0
    pages: list[int] = field(default_factory=list)

    @property
    def shared(self) -> int:
        """Tokens that lie in the prefix."""
        return len(self.prefix.token_ids) if self.prefix else 0

    @property
    def pending(self) -> int:
        """Tokens that have no keys and values yet."""
        return len(self.token_ids) - self.cached

    @property
    def own(self) -> int:
        """Cached tokens that lie in the row's own pages."""
        return self.cached - self.shared


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` tokens of a row or a prefix, from where its cache ends; the last one of a row draws a token."""

    owner: Row | Prefix
    count: int
    draws: bool


class Kind(Enum):
    """What a step does."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed together: segments of prefixes first, then of rows."""

    kind: Kind
    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the forward."""
        return sum(segment.count for segment in self.segments)

    @property
    def rows(self) -> list[Row]:
        """The rows that draw a token, in the order of the logits."""
        return [s.owner for s in self.segments if s.draws and isinstance(s.owner, Row)]


@dataclass(slots=True)
class Limits:
    """What may run together.

    Attributes:
        rows: most rows at a time.
        step_tokens: most tokens of a prefill step.
    """

    rows: int
    step_tokens: int


class Scheduler:
    """Holds all rows that are not gone, and says what to compute next."""

    def __init__(self, limits: Limits, pages: Pages, expected: ExpectedLength) -> None:
        """No rows yet.

        Args:
            limits: may be lowered between steps.
            pages: the free pages; only the scheduler takes and gives them back.
            expected: how long answers become, asked at admission.
        """
        self.limits = limits
        self.pages = pages
        self.preempted = 0
        self._expected = expected
        self._waiting: deque[Row] = deque()
        self._prefilling: deque[Row] = deque()
        self._running: list[Row] = []
        self._promised: dict[int, int] = {}

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Rows that hold a place."""
        return len(self._prefilling) + len(self._running)

    def add(self, window: Sequence[Row]) -> None:
        """Rows that arrive together; they are served longest first, after all that arrived before."""
        self._waiting.extend(sorted(window, key=lambda row: -(row.prompt + row.limit)))

    def too_large(self) -> list[Row]:
        """Take out the rows at the head that do not fit even alone."""
        alone: list[Row] = []
        while self._waiting and self.active == 0 and not self._fits_alone(self._waiting[0]):
            alone.append(self._waiting.popleft())
        return alone

    def next(self) -> Step | None:
        """What to compute now; None when nothing is left to do. Pages are taken here."""
        if self._prefilling or self._worth_admitting():
            step = self._prefill()
            if step is not None:
                return step
        return self._decode()

    def computed(self, step: Step) -> None:
        """The step has run: its tokens have keys and values."""
        for segment in step.segments:
            owner = segment.owner
            if isinstance(owner, Prefix):
                owner.computed += segment.count
                continue
            owner.cached += segment.count
            if segment.draws and step.kind is Kind.PREFILL:
                self._prefilling.remove(owner)
                self._running.append(owner)

    def leave(self, row: Row) -> None:
        """A running row has ended."""
        self._running.remove(row)
        self._release(row)
        if row.prefix is not None:
            row.prefix.users -= 1

    def preempt_all(self) -> None:
        """Everyone gives back their pages and waits again, those who came first in front."""
        active = [*self._running, *self._prefilling]
        self._prefilling.clear()
        self._running.clear()
        for row in reversed(active):
            self._release(row)
            row.cached = 0
            self._waiting.appendleft(row)
        self.preempted += len(active)

    def _worth_admitting(self) -> bool:
        """Whether enough places are free to begin a prefill: an eighth of them, or all that are wanted."""
        free = self.limits.rows - self.active
        wanted = min(len(self._waiting), max(1, self.limits.rows // 8))
        return 0 < wanted <= free

    def _prefill(self) -> Step | None:
        budget = self.limits.step_tokens
        prefixes: list[Segment] = []
        rows: list[Segment] = []
        for row in self._prefilling:
            budget -= self._segment(row, budget, rows)
        while self._waiting and budget > 0 and self.active < self.limits.rows:
            row = self._waiting[0]
            budget -= self._prepare_prefix(row, budget, prefixes)
            if budget <= 0 or not _will_be_ready(row.prefix, prefixes) or not self._admit(row):
                break
            budget -= self._segment(row, budget, rows)
        rows.sort(key=lambda segment: _place(segment.owner))
        segments = (*prefixes, *rows)
        return Step(Kind.PREFILL, segments) if segments else None

    def _prepare_prefix(self, row: Row, budget: int, prefixes: list[Segment]) -> int:
        prefix = row.prefix
        if prefix is None or prefix.ready or any(s.owner is prefix for s in prefixes):
            return 0
        count = min(budget, len(prefix.token_ids) - prefix.computed)
        prefixes.append(Segment(prefix, count, draws=False))
        return count

    def _segment(self, row: Row, budget: int, segments: list[Segment]) -> int:
        count = min(budget, row.pending)
        if count > 0:
            segments.append(Segment(row, count, draws=count == row.pending))
        return count

    def _admit(self, row: Row) -> bool:
        tokens = len(row.token_ids) - row.shared
        left = row.limit - (len(row.token_ids) - row.prompt)
        promised = self.pages.needed(tokens + min(left, self._expected(row.limit)))
        open_promises = sum(
            max(0, promised_ - len(held.pages))
            for held in (*self._prefilling, *self._running)
            for promised_ in (self._promised[held.number],)
        )
        needed = self.pages.needed(tokens)
        if needed > self.pages.free or (self.active and promised + open_promises > self.pages.free):
            return False
        self._waiting.popleft()
        self._promised[row.number] = promised
        row.pages.extend(self.pages.take(needed))
        row.cached = row.shared
        self._prefilling.append(row)
        return True

    def _decode(self) -> Step | None:
        for row in list(self._running):
            # Rows that came first keep their pages: the one that came last leaves.
            while row in self._running and not self._grow(row):
                self._preempt(self._running[-1])
        if not self._running:
            return None
        order = sorted(self._running, key=lambda row: (_place(row), -row.own))
        return Step(Kind.DECODE, tuple(Segment(row, 1, draws=True) for row in order))

    def _grow(self, row: Row) -> bool:
        missing = self.pages.needed(row.own + 1) - len(row.pages)
        if missing > self.pages.free:
            return False
        row.pages.extend(self.pages.take(missing))
        return True

    def _preempt(self, row: Row) -> None:
        self._running.remove(row)
        self._release(row)
        row.cached = 0
        self._waiting.appendleft(row)
        self.preempted += 1

    def _release(self, row: Row) -> None:
        self.pages.give_back(row.pages)
        self._promised.pop(row.number, None)

    def _fits_alone(self, row: Row) -> bool:
        return self.pages.needed(row.prompt + row.limit - row.shared) <= self.pages.total


def _place(owner: Row | Prefix) -> int:
    """Rows of one prefix lie together in a step: it is looked up for all of them at once."""
    return owner.prefix.number if isinstance(owner, Row) and owner.prefix is not None else 0


def _will_be_ready(prefix: Prefix | None, segments: list[Segment]) -> bool:
    """Whether all of the prefix is computed once those segments are."""
    if prefix is None or prefix.ready:
        return True
    soon = sum(segment.count for segment in segments if segment.owner is prefix)
    return prefix.computed + soon == len(prefix.token_ids)
