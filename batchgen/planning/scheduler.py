"""Decides which rows run next.

    waiting ──admit──> prefilling ──last prompt token──> running ──end──> gone
       ^                                                    |
       └──────────── preempted: pages freed, tokens kept, computed again ────────┘
                     (in bfloat16 the answer begins again: `StepLimits.restarts`)

A step is a list of segments, each with the next uncached tokens of a row. Either every segment has one token (decode), or
prompts are computed, in chunks if they are long (prefill). Prefill has priority, unless too few places are free to be
worth a forward.

Rows of a window run longest first: memory peaks early, and long answers do not run alone at the end. A window is finished
before the next one begins, so no row starves.

A prefix that many rows share is computed once, in separate steps before those of its rows. If it does not fit in the arena
or in memory, its rows run without it.

A row that continues a finished one, such as the next turn of a conversation, runs before the waiting rows, and begins with
the pages of that one if they are still kept.
"""

from collections import deque
from collections.abc import Callable, Sequence, Set
from itertools import chain, islice

from batchgen.planning.pages import Arena, KeptSequences, PageAllocator
from batchgen.planning.prefill_batch import PrefillBatch, StepLimits, prefix_key
from batchgen.planning.sequences import (
    KeptSequence,
    Prefix,
    ScheduledSequence,
    Segment,
    Step,
    StepKind,
)

ExpectedLength = Callable[[int], int]
"""Expected number of new tokens, from the largest allowed number."""


class Scheduler:
    """Schedules all unfinished rows."""

    def __init__(
        self, limits: StepLimits, pages: PageAllocator, arena: Arena, expected: ExpectedLength
    ) -> None:
        """Start without rows.

        Args:
            limits: may be lowered between steps.
            pages: of rows; only the scheduler allocates and frees them.
            arena: of prefixes; only the scheduler allocates and frees them.
            expected: used at admission.
        """
        self.limits = limits
        self.pages = pages
        self.arena = arena
        self.kept = KeptSequences(pages, self._detach)
        self.preempted = 0
        self._expected = expected
        self._waiting: deque[ScheduledSequence] = deque()
        self._prefilling: deque[ScheduledSequence] = deque()
        self._running: list[ScheduledSequence] = []
        self._prefixes: list[Prefix] = []
        self._rejected: list[ScheduledSequence] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._prefilling) + len(self._running)

    @property
    def _started(self) -> list[ScheduledSequence]:
        return [*self._running, *self._prefilling]

    @property
    def held_pages(self) -> list[int]:
        return [page for row in self._started for page in row.pages]

    def add(self, window: Sequence[ScheduledSequence]) -> None:
        """Add the rows of a window; they run longest first, after all earlier rows."""
        self._waiting.extend(sorted(window, key=lambda row: -(row.prompt + row.limit)))

    def add_next(self, rows: Sequence[ScheduledSequence]) -> None:
        """Add rows that continue finished ones; they run before all waiting rows, in order."""
        self._waiting.extendleft(reversed(rows))

    def too_large(self) -> list[ScheduledSequence]:
        """Remove and return the next waiting rows while they do not fit even alone, and rejected rows."""
        alone, self._rejected = self._rejected, []
        while self._waiting and self.active == 0:
            row = self._waiting[0]
            if self.pages.pages_for(row.prompt + row.limit) <= self.pages.total:
                break
            self._detach(row)
            alone.append(self._waiting.popleft())
        return alone

    def next(self) -> Step | None:
        """Allocate and return the next step; None if there is nothing to do."""
        if self._prefilling or self._worth_admitting():
            prefixes = self._missing_prefixes()
            step = Step(StepKind.PREFILL, tuple(prefixes)) if prefixes else self._prefill_rows()
            if step is not None:
                return step
            if self.active == 0:
                # The next row's prefix does not fit although no row runs.
                row = self._waiting[0]
                self._detach(row)
                if not self._admit(row):
                    raise ValueError(f"row {row.number} does not fit even alone; see too_large()")
                return self._prefill_rows()
        return self._decode()

    def mark_computed(self, step: Step) -> None:
        """Record that the tokens of a step have keys and values."""
        for segment in step.segments:
            owner = segment.owner
            if isinstance(owner, Prefix):
                owner.computed += segment.count
                continue
            owner.cached += segment.count
            if owner.pending == 0 and step.kind is StepKind.PREFILL:
                self._prefilling.remove(owner)
                self._running.append(owner)

    def requeue_prefill(self, row: ScheduledSequence) -> None:
        """Prefill a running row again, whose tokens after the cached ones have changed and fit in its pages."""
        self._running.remove(row)
        self._prefilling.appendleft(row)

    def finish(self, row: ScheduledSequence) -> None:
        self._running.remove(row)
        self.pages.release(row.pages)
        self._detach(row)

    def finish_and_keep(self, row: ScheduledSequence) -> KeptSequence:
        """Finish a row that another one is expected to continue."""
        self._running.remove(row)
        return self.kept.add(row)

    def preempt_all(self) -> None:
        """Preempt all rows: free their pages and return them to the queue in order of arrival."""
        started = self._started
        self._prefilling.clear()
        self._running.clear()
        for row in reversed(started):
            self._requeue(row)
        self.kept.make_room(self.pages.total)
        self._drop_idle_prefixes()

    def reject(self, row: ScheduledSequence) -> None:
        """Remove a waiting row that did not fit when it ran alone; see `too_large`."""
        self._waiting.remove(row)
        self._detach(row)
        self._rejected.append(row)

    def drop_prefix(self, prefix: Prefix) -> None:
        """Remove a prefix that did not fit when it ran alone; its rows, all waiting, run without it."""
        for row in self._waiting:
            if row.prefix is prefix:
                self._detach(row)

    def abandon(self) -> None:
        for row in self._started:
            self.pages.release(row.pages)
        for row in (*self._started, *self._waiting):
            self._detach(row)
        for rows in (self._running, self._prefilling, self._waiting, self._rejected):
            rows.clear()
        self.kept.make_room(self.pages.total)

    def _worth_admitting(self) -> bool:
        """Whether enough places are free for a prefill: an eighth of all, or enough for all waiting rows."""
        free = self.limits.rows - self.active
        worthwhile = min(len(self._waiting), max(1, self.limits.rows // 8))
        return 0 < worthwhile <= free

    def _prefill_rows(self) -> Step | None:
        step = PrefillBatch(self.limits, self._part_tokens())
        for row in self._prefilling:
            step.add(row)
        while step.open and self._can_begin() and self._admit(self._waiting[0]):
            step.add(self._prefilling[-1])
        segments = tuple(step.segments())
        return Step(StepKind.PREFILL, segments) if segments else None

    def _part_tokens(self) -> int:
        """Most tokens of a part of the next step: the whole step if it can take all tokens."""
        step = left = self.limits.step_tokens
        for row in chain(self._prefilling, self._waiting):
            left -= len(row.token_ids) - row.known
            if left < 0:
                return max(1, step // self.limits.parts)
        return step

    def _can_begin(self) -> bool:
        if not self._waiting or self.active >= self.limits.rows:
            return False
        prefix = self._waiting[0].prefix
        return prefix is None or prefix.ready

    def _missing_prefixes(self) -> list[Segment]:
        """Segments of uncomputed prefixes of the next rows, within the tokens of a step."""
        budget = self.limits.step_tokens
        segments: list[Segment] = []
        needed: set[int] = set()
        for row in islice(self._waiting, self.limits.rows - self.active):
            prefix = row.prefix
            if prefix is None or prefix.number in needed:
                continue
            needed.add(prefix.number)
            if prefix.ready:
                continue
            if budget == 0 or not self._hold(prefix, needed):
                break
            count = min(budget, len(prefix.token_ids) - prefix.computed)
            budget -= count
            segments.append(Segment(prefix, count, drawn=0))
        return segments

    def _hold(self, prefix: Prefix, needed: Set[int]) -> bool:
        """Allocate places for a prefix if necessary. Idle prefixes may be dropped, except those of earlier rows."""
        if prefix.arena_range is None:
            length = len(prefix.token_ids)
            prefix.arena_range = self.arena.allocate(length)
            if prefix.arena_range is None and self._drop_idle_prefixes(needed):
                prefix.arena_range = self.arena.allocate(length)
            if prefix.arena_range is None:
                return False
            self._prefixes.append(prefix)
        return True

    def _detach(self, row: ScheduledSequence | KeptSequence) -> None:
        """Remove the prefix of a row, whose last user frees its places, and what is kept for the row."""
        if isinstance(row, ScheduledSequence) and row.kept is not None:
            self.kept.drop(row.kept)
            row.kept = None
        if row.prefix is not None:
            row.prefix.users -= 1
            if row.prefix.users == 0:
                self._drop(row.prefix)
            row.prefix = None

    def _drop_idle_prefixes(self, needed: Set[int] = frozenset()) -> bool:
        """Drop prefixes that no started row uses and that are not in `needed`; returns whether there were any."""
        used = {prefix_key(row) for row in self._started} | needed
        idle = [prefix for prefix in self._prefixes if prefix.number not in used]
        for prefix in idle:
            self._drop(prefix)
        return bool(idle)

    def _drop(self, prefix: Prefix) -> None:
        if prefix.arena_range is not None:
            self._prefixes.remove(prefix)
            self.arena.release(prefix.arena_range)
            prefix.arena_range = None
            prefix.computed = 0

    def _admit(self, row: ScheduledSequence) -> bool:
        """Start the next row if its tokens fit, and the expected tokens of all started rows too."""
        tokens = len(row.token_ids) - row.shared
        left = row.limit - (len(row.token_ids) - row.prompt)
        needed = self.pages.pages_for(tokens)
        expected = self.pages.pages_for(tokens + min(left, self._expected(row.limit)))
        missing = sum(max(0, one.expected_pages - len(one.pages)) for one in self._started)
        # The pages that are kept for the row are among those that it needs.
        free = self.pages.free + self.kept.pages
        if needed > free or (self.active and expected + missing > free):
            return False
        self._waiting.popleft()
        row.expected_pages = expected
        row.cached = row.shared
        self.kept.take(row)
        self.kept.make_room(needed - len(row.pages))
        row.pages.extend(self.pages.allocate(needed - len(row.pages)))
        self._prefilling.append(row)
        return True

    def _decode(self) -> Step | None:
        for row in list(self._running):
            # Earlier rows keep their pages: the latest one is preempted.
            while row in self._running and not self._grow(row):
                self._requeue(self._running.pop())
        if not self._running:
            return None
        order = sorted(self._running, key=lambda row: (prefix_key(row), -row.own))
        return Step(StepKind.DECODE, tuple(Segment(row, 1, drawn=1) for row in order))

    def _grow(self, row: ScheduledSequence) -> bool:
        missing = self.pages.pages_for(row.own + 1) - len(row.pages)
        self.kept.make_room(missing)
        if missing > self.pages.free:
            return False
        row.pages.extend(self.pages.allocate(missing))
        return True

    def _requeue(self, row: ScheduledSequence) -> None:
        """Preempt a row that is in none of the queues."""
        self.pages.release(row.pages)
        row.cached = 0
        if self.limits.restarts:
            del row.token_ids[row.prompt :]
        self._waiting.appendleft(row)
        self.preempted += 1
