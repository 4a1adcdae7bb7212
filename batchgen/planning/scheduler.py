"""Who runs next. Plain Python: no tensors, no model, no clock.

    waiting ──admit──> prefilling ──last prompt token──> running ──end──> gone
       ^                                                    |
       └──────────── preempted: pages given back, tokens kept, computed again ──┘

A step is a list of segments: so many tokens of a row, from where its cache ends. Either every segment is one token
(decode), or prompts are computed, in chunks if they are long (prefill). Prefill goes first, unless so few rows have
left that their places are not worth a forward of their own.

Rows of one window are served longest first: memory peaks early, and the long answers do not run alone at the end. A
window is served out before the next one begins, so nobody waits for ever.

A prompt's beginning that many rows share is a `Prefix`: computed once, in steps of its own before those of its rows.
Where it does not fit, in the arena or in memory, a row goes on without.
"""

from collections import deque
from collections.abc import Callable, Sequence, Set
from itertools import chain, islice

from batchgen.planning.pages import Arena, PageAllocator
from batchgen.planning.prefill_batch import PrefillBatch, StepLimits, prefix_key
from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment, Step, StepKind

ExpectedLength = Callable[[int], int]
"""How many new tokens an answer will probably have that may have so many."""


class Scheduler:
    """Holds all rows that are not gone, and says what to compute next."""

    def __init__(
        self, limits: StepLimits, pages: PageAllocator, arena: Arena, expected: ExpectedLength
    ) -> None:
        """No rows yet.

        Args:
            limits: may be lowered between steps.
            pages: the free pages; only the scheduler takes and gives them back.
            arena: room for prefixes; the same holds.
            expected: how long answers become, asked at admission.
        """
        self.limits = limits
        self.pages = pages
        self.arena = arena
        self.preempted = 0
        self._expected = expected
        self._waiting: deque[ScheduledSequence] = deque()
        self._prefilling: deque[ScheduledSequence] = deque()
        self._running: list[ScheduledSequence] = []
        self._prefixes: list[Prefix] = []
        self._promised: dict[int, int] = {}
        self._refused: list[ScheduledSequence] = []

    @property
    def waiting(self) -> int:
        """Rows that have not begun."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Rows that hold a place."""
        return len(self._prefilling) + len(self._running)

    @property
    def held(self) -> list[int]:
        """The pages of all rows that have a place."""
        return [page for row in (*self._prefilling, *self._running) for page in row.pages]

    def add(self, window: Sequence[ScheduledSequence]) -> None:
        """Rows that arrive together; they are served longest first, after all that arrived before."""
        self._waiting.extend(sorted(window, key=lambda row: -(row.prompt + row.limit)))

    def too_large(self) -> list[ScheduledSequence]:
        """Take out the rows at the head that do not fit even alone, and those that were refused."""
        alone, self._refused = self._refused, []
        while self._waiting and self.active == 0 and not self._fits_alone(self._waiting[0]):
            self._detach(self._waiting[0])
            alone.append(self._waiting.popleft())
        return alone

    def next(self) -> Step | None:
        """What to compute now; None when nothing is left to do. Pages are taken here."""
        if self._prefilling or self._worth_admitting():
            step = self._prefill()
            if step is not None:
                return step
            if self.active == 0:
                self._begin_alone(self._waiting[0])
                return self._prefill_rows()
        return self._decode()

    def computed(self, step: Step) -> None:
        """The step has run: its tokens have keys and values."""
        for segment in step.segments:
            owner = segment.owner
            if isinstance(owner, Prefix):
                owner.computed += segment.count
                continue
            owner.cached += segment.count
            if owner.pending == 0 and step.kind is StepKind.PREFILL:
                self._prefilling.remove(owner)
                self._running.append(owner)

    def again(self, row: ScheduledSequence) -> None:
        """A running row has other tokens behind its cached ones now, no more than its pages hold: they are prefilled."""
        self._running.remove(row)
        self._prefilling.appendleft(row)

    def leave(self, row: ScheduledSequence) -> None:
        """A running row has ended."""
        self._running.remove(row)
        self._release(row)
        self._detach(row)

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
        self._drop_idle_prefixes()

    def refuse(self, row: ScheduledSequence) -> None:
        """A waiting row has been tried by itself and did not fit; see `too_large`."""
        self._waiting.remove(row)
        self._detach(row)
        self._refused.append(row)

    def unshare(self, prefix: Prefix) -> None:
        """A prefix has been tried by itself and did not fit: its rows, which all wait, go on without."""
        for row in self._waiting:
            if row.prefix is prefix:
                self._detach(row)

    def abandon(self) -> None:
        """Remove every row that has not ended; pages and prefixes are free again."""
        for row in (*self._running, *self._prefilling):
            self._release(row)
        for row in (*self._running, *self._prefilling, *self._waiting):
            self._detach(row)
        for rows in (self._running, self._prefilling, self._waiting, self._refused):
            rows.clear()

    def _worth_admitting(self) -> bool:
        """Whether enough places are free to begin a prefill: an eighth of them, or all that are wanted."""
        free = self.limits.rows - self.active
        wanted = min(len(self._waiting), max(1, self.limits.rows // 8))
        return 0 < wanted <= free

    def _prefill(self) -> Step | None:
        prefixes = self._missing_prefixes()
        return Step(StepKind.PREFILL, tuple(prefixes)) if prefixes else self._prefill_rows()

    def _prefill_rows(self) -> Step | None:
        step = PrefillBatch(self.limits, self._part_tokens())
        for row in self._prefilling:
            step.add(row)
        while step.open and self._can_begin() and self._admit(self._waiting[0]):
            step.add(self._prefilling[-1])
        segments = tuple(step.segments())
        return Step(StepKind.PREFILL, segments) if segments else None

    def _part_tokens(self) -> int:
        """Tokens of a part of the next step: all that are left if one step can take them."""
        whole, left = self.limits.step_tokens, self.limits.step_tokens
        for row in chain(self._prefilling, self._waiting):
            left -= len(row.token_ids) - max(row.cached, row.shared)
            if left < 0:
                return max(1, whole // self.limits.parts)
        return whole

    def _can_begin(self) -> bool:
        if not self._waiting or self.active >= self.limits.rows:
            return False
        prefix = self._waiting[0].prefix
        return prefix is None or prefix.ready

    def _missing_prefixes(self) -> list[Segment]:
        """What is still to be computed of the prefixes of the rows that come next, as far as a step goes."""
        budget = self.limits.step_tokens
        segments: list[Segment] = []
        wanted: set[int] = set()
        for row in islice(self._waiting, self.limits.rows - self.active):
            prefix = row.prefix
            if prefix is None or prefix.number in wanted:
                continue
            wanted.add(prefix.number)
            if prefix.ready:
                continue
            if budget == 0 or not self._hold(prefix, wanted):
                break
            count = min(budget, len(prefix.token_ids) - prefix.computed)
            budget -= count
            segments.append(Segment(prefix, count, drawn=0))
        return segments

    def _hold(self, prefix: Prefix, wanted: Set[int]) -> bool:
        """Find places for a prefix unless it has them. Others may have to go, but not those of rows that come before."""
        if prefix.places is None:
            length = len(prefix.token_ids)
            prefix.places = self.arena.take(length)
            if prefix.places is None and self._drop_idle_prefixes(wanted):
                prefix.places = self.arena.take(length)
            if prefix.places is None:
                return False
            self._prefixes.append(prefix)
        return True

    def _begin_alone(self, row: ScheduledSequence) -> None:
        """Nothing runs and still the next row cannot begin, because there is no room for its prefix."""
        self._detach(row)
        if not self._admit(row):
            raise ValueError(f"row {row.number} does not fit even alone; see too_large()")

    def _detach(self, row: ScheduledSequence) -> None:
        """The row has no prefix any more; after the last one, the prefix gives its places back."""
        if row.prefix is None:
            return
        row.prefix.users -= 1
        if row.prefix.users == 0:
            self._drop(row.prefix)
        row.prefix = None

    def _drop_idle_prefixes(self, wanted: Set[int] = frozenset()) -> bool:
        """Prefixes that no running row has, nor anyone wants, give their places back; whether there were any."""
        used = {prefix_key(row) for row in (*self._prefilling, *self._running)} | wanted
        idle = [prefix for prefix in self._prefixes if prefix.number not in used]
        for prefix in idle:
            self._drop(prefix)
        return bool(idle)

    def _drop(self, prefix: Prefix) -> None:
        if prefix.places is None:
            return
        self._prefixes.remove(prefix)
        self.arena.give_back(prefix.places)
        prefix.places = None
        prefix.computed = 0

    def _admit(self, row: ScheduledSequence) -> bool:
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
        order = sorted(self._running, key=lambda row: (prefix_key(row), -row.own))
        return Step(StepKind.DECODE, tuple(Segment(row, 1, drawn=1) for row in order))

    def _grow(self, row: ScheduledSequence) -> bool:
        missing = self.pages.needed(row.own + 1) - len(row.pages)
        if missing > self.pages.free:
            return False
        row.pages.extend(self.pages.take(missing))
        return True

    def _preempt(self, row: ScheduledSequence) -> None:
        self._running.remove(row)
        self._release(row)
        row.cached = 0
        self._waiting.appendleft(row)
        self.preempted += 1

    def _release(self, row: ScheduledSequence) -> None:
        self.pages.give_back(row.pages)
        self._promised.pop(row.number, None)

    def _fits_alone(self, row: ScheduledSequence) -> bool:
        return self.pages.needed(row.prompt + row.limit) <= self.pages.total
