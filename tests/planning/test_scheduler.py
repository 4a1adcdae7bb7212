"""The scheduler without a model: a step is only marked as computed, and answers end at given lengths."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.planning.pages import Arena, PageAllocator
from batchgen.planning.prefill_batch import StepLimits
from batchgen.planning.scheduler import Scheduler
from batchgen.planning.sequences import Prefix, ScheduledSequence, Step, StepKind


@dataclass(frozen=True)
class Wish:
    """A row: prompt length, limit, actual length of the answer, and number of its prefix (0: none)."""

    prompt: int
    limit: int
    length: int
    prefix: int


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    limit = draw(st.integers(1, 12))
    return Wish(
        draw(st.integers(1, 40)), limit, draw(st.integers(1, limit)), draw(st.integers(0, 2))
    )


def rows_of(wanted: list[Wish]) -> list[ScheduledSequence]:
    """Rows whose prompts begin with a prefix of 5 or 10 tokens and are at least one token longer."""
    prefixes = {n: Prefix(n, [n] * 5 * n) for n in (1, 2)}
    rows = []
    for number, wish in enumerate(wanted):
        prefix = prefixes.get(wish.prefix)
        tokens = [*(prefix.token_ids if prefix else ()), *([9] * wish.prompt)]
        rows.append(ScheduledSequence(number, tokens, len(tokens), wish.limit, prefix))
        if prefix:
            prefix.users += 1
    return rows


@dataclass
class World:
    """A scheduler whose steps are checked."""

    scheduler: Scheduler
    ends: dict[int, int]

    def __post_init__(self) -> None:
        self.ended: list[int] = []
        self.began: list[int] = []

    def steps(self) -> Iterator[Step]:
        """Run until nothing is left; invariants are checked before each step."""
        scheduler = self.scheduler
        for _ in range(20_000):
            for row in scheduler.too_large():
                self.ended.append(row.number)
            step = scheduler.next()
            if step is None:
                return
            self.check(step)
            yield step
            scheduler.mark_computed(step)
            for row in step.rows:
                assert row.pending == 0
                row.token_ids.append(7)
                if len(row.token_ids) - row.prompt == self.ends[row.number]:
                    scheduler.finish(row)
                    self.ended.append(row.number)
        pytest.fail("the rows never end")

    def check(self, step: Step) -> None:
        limits = self.scheduler.limits
        owners = [segment.owner for segment in step.segments]
        assert step.segments, "an empty step"
        assert len(set(map(id, owners))) == len(owners), "no row is in a step twice"
        assert all(segment.count > 0 for segment in step.segments)
        assert self.scheduler.active <= limits.rows
        if step.kind is StepKind.PREFILL:
            assert step.tokens <= limits.step_tokens
            assert len({isinstance(owner, Prefix) for owner in owners}) == 1, (
                "prefixes by themselves"
            )
        else:
            assert all(segment.count == 1 and segment.drawn == 1 for segment in step.segments)
        held: list[int] = []
        for segment in step.segments:
            owner = segment.owner
            if isinstance(owner, Prefix):
                assert owner.arena_range is not None
                assert len(owner.arena_range) == len(owner.token_ids)
                continue
            held += owner.pages
            capacity = len(owner.pages) * self.scheduler.pages.size
            assert owner.own + segment.count <= capacity, "every new token has a place"
            assert segment.drawn == (segment.count == owner.pending)
            if owner.prefix is not None:
                assert owner.prefix.ready, "a prefix comes before its rows"
        assert len(set(held)) == len(held), "a page has one owner"
        for row in step.rows:
            if row.number not in self.began:
                self.began.append(row.number)


def half(limit: int) -> int:
    return (limit + 1) // 2


def world(
    wanted: list[Wish],
    limits: StepLimits,
    pages: PageAllocator,
    expected: Callable[[int], int] = half,
    arena: Arena | None = None,
) -> World:
    rows = rows_of(wanted)
    scheduler = Scheduler(limits, pages, arena or Arena(64), expected=expected)
    scheduler.add(rows)
    return World(scheduler, {n: wish.length for n, wish in enumerate(wanted)})


@settings(max_examples=200)
@given(
    wanted=st.lists(wishes(), min_size=1, max_size=25),
    places=st.integers(1, 8),
    step_tokens=st.integers(1, 50),
    parts=st.integers(1, 3),
    pages=st.integers(1, 40),
    size=st.sampled_from([1, 4, 16]),
    arena=st.integers(0, 20),
)
def test_every_row_ends_once_and_all_memory_is_released(
    wanted: list[Wish],
    places: int,
    step_tokens: int,
    parts: int,
    pages: int,
    size: int,
    arena: int,
) -> None:
    free = PageAllocator(pages, size)
    run = world(wanted, StepLimits(places, step_tokens, parts), free, arena=Arena(arena))
    for _ in run.steps():
        pass
    assert sorted(run.ended) == list(range(len(wanted)))
    assert free.free == pages
    assert run.scheduler.arena.allocate(arena) == range(arena)


@settings(max_examples=100)
@given(wanted=st.lists(wishes(), min_size=1, max_size=25), stop_after=st.integers(0, 30))
def test_abandoned_rows_free_all_pages(wanted: list[Wish], stop_after: int) -> None:
    free = PageAllocator(40, 4)
    run = world(wanted, StepLimits(4, 20), free, arena=Arena(15))
    for _ in islice(run.steps(), stop_after):
        pass
    run.scheduler.abandon()
    assert (run.scheduler.waiting, run.scheduler.active, run.scheduler.too_large()) == (0, 0, [])
    assert run.scheduler.next() is None
    assert free.free == 40
    assert run.scheduler.arena.allocate(15) == range(15)


@settings(max_examples=100)
@given(
    wanted=st.lists(wishes(), min_size=1, max_size=15),
    lost=st.dictionaries(st.integers(0, 40), st.booleans(), max_size=5),
    pages=st.integers(60, 80),
)
def test_steps_that_ran_out_of_memory_are_repeated(
    wanted: list[Wish], lost: dict[int, bool], pages: int
) -> None:
    """A rejected row ends; a dropped prefix is not shared any more."""
    free = PageAllocator(pages, 4)
    run = world(wanted, StepLimits(8, 30), free)
    scheduler = run.scheduler
    unshared: list[ScheduledSequence | Prefix] = []
    for number in range(20_000):
        run.ended += [row.number for row in scheduler.too_large()]
        step = scheduler.next()
        if step is None:
            break
        run.check(step)
        assert all(segment.owner not in unshared for segment in step.segments)
        if number in lost:
            scheduler.preempt_all()
            owner = step.segments[0].owner
            if not lost[number]:
                continue
            if isinstance(owner, Prefix):
                scheduler.drop_prefix(owner)
                unshared.append(owner)
            else:
                scheduler.reject(owner)
            continue
        scheduler.mark_computed(step)
        for row in step.rows:
            row.token_ids.append(7)
            if len(row.token_ids) - row.prompt == run.ends[row.number]:
                scheduler.finish(row)
                run.ended.append(row.number)
    assert sorted(run.ended) == list(range(len(wanted)))
    assert free.free == pages
    assert scheduler.arena.allocate(64) == range(64)


@dataclass
class Turns:
    """Rows of likelihoods: several logits at once, then a shorter continuation is prefilled after the same context."""

    scheduler: Scheduler
    ends: list[list[int]]
    contexts: list[int]

    def __post_init__(self) -> None:
        self.drawn = [0] * len(self.ends)

    @classmethod
    def of(cls, wanted: list[tuple[Wish, list[int]]], scheduler: Scheduler) -> "Turns":
        rows = rows_of([wish for wish, _ in wanted])
        turns = cls(scheduler, [sorted(e, reverse=True) for _, e in wanted], [])
        for row in rows:
            turns.contexts.append(len(row.token_ids))
            row.draws, row.limit = turns.ends[row.number][0], 0
            row.token_ids += [5] * (row.draws - 1)
            row.prompt = len(row.token_ids)
        scheduler.add(rows)
        return turns

    def run(self, step: Step) -> None:
        self.scheduler.mark_computed(step)
        for row, count in step.drawn:
            self.drawn[row.number] += count
            if row.pending == 0:
                assert self.drawn[row.number] == row.draws, "each token is read once"
                self.drawn[row.number] = 0
                self._next(row)

    def lose(self) -> None:
        self.scheduler.preempt_all()
        self.drawn = [0] * len(self.ends)

    def _next(self, row: ScheduledSequence) -> None:
        ends, context = self.ends[row.number], self.contexts[row.number]
        ends.pop(0)
        if not ends or ends[0] == 1:
            ends.clear()
            self.scheduler.finish(row)
            return
        row.draws, row.cached = ends[0] - 1, context
        row.token_ids = [9] * context + [5] * row.draws
        self.scheduler.requeue_prefill(row)


@settings(max_examples=100)
@given(
    wanted=st.lists(
        st.tuples(wishes(), st.lists(st.integers(1, 12), min_size=1, max_size=4)), max_size=12
    ),
    limits=st.builds(StepLimits, st.integers(1, 6), st.integers(1, 40), st.integers(1, 3)),
    lost=st.sets(st.integers(0, 40), max_size=5),
    pages=st.integers(16, 40),
)
def test_all_continuations_of_a_context_are_computed(
    wanted: list[tuple[Wish, list[int]]], limits: StepLimits, lost: set[int], pages: int
) -> None:
    free = PageAllocator(pages, 4)
    scheduler = Scheduler(limits, free, Arena(12), expected=lambda limit: limit)
    turns = Turns.of(wanted, scheduler)
    for number in range(20_000):
        assert not scheduler.too_large()
        step = scheduler.next()
        if step is None:
            break
        assert step.kind is StepKind.PREFILL
        assert 0 < step.tokens <= limits.step_tokens
        assert sum(count for _, count in step.drawn) <= limits.rows
        if number in lost:
            turns.lose()
        else:
            turns.run(step)
    assert not any(turns.ends)
    assert free.free == pages


def test_a_window_runs_longest_first_and_before_the_next() -> None:
    wanted = [Wish(n, 2, 2, 0) for n in (3, 9, 5, 30, 40)]
    rows = rows_of(wanted)
    scheduler = Scheduler(
        StepLimits(1, 64), PageAllocator(64, 4), Arena(0), expected=lambda limit: limit
    )
    scheduler.add(rows[:3])
    scheduler.add(rows[3:])
    run = World(scheduler, dict.fromkeys(range(5), 2))
    for _ in run.steps():
        pass
    assert run.began == [1, 2, 0, 4, 3]


def test_prompts_are_computed_before_answers_continue_and_long_ones_in_chunks() -> None:
    wanted = [Wish(25, 3, 3, 0), Wish(6, 3, 3, 0)]
    run = world(wanted, StepLimits(4, 10), PageAllocator(64, 4))
    seen = [(step.kind.value, [s.count for s in step.segments]) for step in run.steps()]
    assert seen == [
        ("prefill", [10]),
        ("prefill", [10]),
        ("prefill", [5, 5]),
        ("prefill", [1]),
        ("decode", [1, 1]),
        ("decode", [1, 1]),
    ]


def test_rows_are_split_at_part_boundaries_except_in_the_last_step() -> None:
    wanted = [Wish(n, 1, 1, 0) for n in (14, 8, 7, 6, 5)]
    run = world(wanted, StepLimits(8, 20, parts=2), PageAllocator(64, 4))
    seen = [[(s.owner.token_ids.count(9), s.count) for s in step.segments] for step in run.steps()]
    assert seen == [
        [(14, 10), (8, 8), (7, 2)],
        [(14, 4), (7, 5), (6, 6), (5, 5)],
    ]


@given(
    prompts=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    parts=st.integers(1, 4),
    part_tokens=st.integers(8, 32),
)
def test_parts_of_a_full_step_have_equal_size_while_rows_wait(
    prompts: list[int], parts: int, part_tokens: int
) -> None:
    limits = StepLimits(64, parts * part_tokens, parts)
    left = sum(prompts)
    run = world([Wish(n, 1, 1, 0) for n in prompts], limits, PageAllocator(1000, 4))
    for step in run.steps():
        if left > limits.step_tokens == step.tokens:
            ends = list(accumulate(segment.count for segment in step.segments))
            assert {part_tokens * (n + 1) for n in range(parts)} <= set(ends)
        left -= step.tokens


def test_prefixes_are_computed_once_and_before_their_rows() -> None:
    wanted = [Wish(3, 1, 1, 2), Wish(3, 1, 1, 1), Wish(3, 1, 1, 2)]
    run = world(wanted, StepLimits(4, 64), PageAllocator(64, 4))
    assert [[s.count for s in step.segments] for step in run.steps()] == [[10, 5], [3, 3, 3]]


def test_a_row_runs_without_a_prefix_that_does_not_fit_in_the_arena() -> None:
    wanted = [Wish(3, 1, 1, 2), Wish(3, 1, 1, 2), Wish(2, 1, 1, 1)]
    run = world(wanted, StepLimits(1, 64), PageAllocator(64, 4), arena=Arena(9))
    counts = [[s.count for s in step.segments] for step in run.steps()]
    assert counts == [[13], [13], [5], [2]]


def test_rows_run_without_a_prefix_that_does_not_fit_in_memory() -> None:
    wanted = [Wish(3, 1, 1, 2), Wish(3, 1, 1, 1), Wish(3, 1, 1, 2), Wish(3, 1, 1, 1)]
    run = world(wanted, StepLimits(4, 64), PageAllocator(64, 4), arena=Arena(15))
    lost = run.scheduler.next()
    assert lost is not None
    assert [s.count for s in lost.segments] == [10, 5]
    run.scheduler.preempt_all()
    large = lost.segments[0].owner
    assert isinstance(large, Prefix)
    run.scheduler.drop_prefix(large)
    assert [[s.count for s in step.segments] for step in run.steps()] == [[5], [13, 13, 3, 3]]
    assert run.scheduler.arena.allocate(15) == range(15)


def test_a_prefix_is_dropped_for_another_when_none_of_its_rows_runs() -> None:
    wanted = [Wish(12, 2, 2, 1), Wish(6, 1, 1, 2), Wish(1, 1, 1, 1)]
    run = world(wanted, StepLimits(1, 64), PageAllocator(64, 4), arena=Arena(12))
    counts = [[s.count for s in step.segments] for step in run.steps()]
    assert counts == [[5], [12], [1], [10], [6], [5], [1]]


def test_a_prefill_waits_for_enough_free_slots() -> None:
    wanted = [Wish(2, 12, 12 if n else 1, 0) for n in range(16)] + [Wish(2, 4, 4, 0)] * 4
    run = world(wanted, StepLimits(16, 64), PageAllocator(64, 4))
    kinds = [step.kind.value for step in run.steps()]
    # Row 0 ends at once; one free place of sixteen is not worth a forward while fifteen rows run.
    assert kinds[:3] == ["prefill", "decode", "decode"]


def test_the_latest_row_is_preempted_when_pages_run_out() -> None:
    wanted = [Wish(4, 8, 8, 0), Wish(4, 8, 8, 0)]
    run = world(wanted, StepLimits(2, 64), PageAllocator(4, 4), expected=lambda limit: 0 * limit)
    for _ in run.steps():
        pass
    assert run.ended == [0, 1]
    assert run.scheduler.preempted == 1


def test_a_row_that_never_fits_is_removed_and_the_others_run() -> None:
    wanted = [Wish(40, 12, 1, 0), Wish(4, 4, 4, 0)]
    run = world(wanted, StepLimits(2, 64), PageAllocator(4, 4))
    for step in run.steps():
        assert [row.number for row in step.rows] == [1]
    assert run.ended == [0, 1]


@dataclass
class Talks:
    """Rows that are continued by others until no turn is `left`."""

    scheduler: Scheduler
    wanted: list[Wish]
    left: list[int]

    def run(self, step: Step) -> None:
        self.scheduler.mark_computed(step)
        for row in step.rows:
            row.token_ids.append(7)
            if len(row.token_ids) - row.prompt == self.wanted[row.number].length:
                self._end(row)

    def _end(self, row: ScheduledSequence) -> None:
        self.left[row.number] -= 1
        if self.left[row.number] == 0:
            self.scheduler.finish(row)
            return
        limit = self.wanted[row.number].limit
        token_ids = [*row.token_ids, *[8] * limit]
        kept = self.scheduler.finish_and_keep(row)
        following = ScheduledSequence(row.number, token_ids, len(token_ids), limit)
        self.scheduler.kept.assign(following, kept, self.scheduler.limits.cuts)
        self.scheduler.add_next([following])


@settings(max_examples=100)
@given(
    wanted=st.lists(wishes(), min_size=1, max_size=12),
    turns=st.integers(2, 4),
    limits=st.builds(
        StepLimits,
        st.integers(1, 6),
        st.integers(1, 40),
        st.integers(1, 3),
        st.sampled_from([1, 1, 8]),
    ),
    pages=st.integers(30, 120),
    arena=st.integers(0, 20),
    stop_after=st.one_of(st.none(), st.integers(0, 60)),
)
def test_rows_that_continue_others_end_once_and_what_is_kept_costs_no_row_its_pages(
    wanted: list[Wish],
    turns: int,
    limits: StepLimits,
    pages: int,
    arena: int,
    stop_after: int | None,
) -> None:
    free = PageAllocator(pages, 4)
    scheduler = Scheduler(limits, free, Arena(arena), expected=lambda _limit: 0)
    scheduler.add(rows_of(wanted))
    talks = Talks(scheduler, wanted, [turns] * len(wanted))
    run = World(scheduler, {})
    for number in range(20_000):
        if number == stop_after:
            scheduler.abandon()
        for row in scheduler.too_large():
            talks.left[row.number] = 0
        preempted = scheduler.preempted
        step = scheduler.next()
        assert scheduler.preempted == preempted or scheduler.kept.pages == 0
        if step is None:
            break
        run.check(step)
        talks.run(step)
    assert stop_after is not None or not any(talks.left)
    assert free.free == pages
    assert scheduler.arena.allocate(arena) == range(arena)


def test_the_next_turn_runs_first_and_computes_what_the_one_before_has_not() -> None:
    wanted = [Wish(n, 1, 1, 0) for n in (9, 8, 7)]
    run = world(wanted, StepLimits(1, 64), PageAllocator(64, 4))
    scheduler, counts = run.scheduler, []
    for step in run.steps():
        (segment,) = step.segments
        row = segment.owner
        counts.append((row.number, segment.count))
        if isinstance(row, ScheduledSequence) and len(counts) == 1:
            scheduler.mark_computed(step)
            row.token_ids.append(7)
            kept = scheduler.finish_and_keep(row)
            following = ScheduledSequence(3, [*row.token_ids, 5, 5], 12, 1)
            scheduler.kept.assign(following, kept, cuts=1)
            run.ends[3] = 1
            scheduler.add_next([following])
            break
    for step in run.steps():
        counts += [(segment.owner.number, segment.count) for segment in step.segments]
    assert counts == [(0, 9), (3, 3), (1, 8), (2, 7)]
    assert (scheduler.kept.rows, scheduler.kept.tokens) == (1, 9)


def test_the_row_kept_last_is_dropped_first() -> None:
    pages = PageAllocator(6, 4)
    scheduler = Scheduler(StepLimits(2, 64), pages, Arena(0), expected=lambda _limit: 0)
    rows = rows_of([Wish(8, 1, 1, 0), Wish(7, 1, 1, 0)])
    scheduler.add(rows)
    step = scheduler.next()
    assert step is not None
    scheduler.mark_computed(step)
    first, second = (scheduler.finish_and_keep(row) for row in rows)
    following = [ScheduledSequence(n, [9] * (8 - n) + [5], 9 - n, 1) for n in (0, 1)]
    for row, kept in zip(following, (first, second), strict=True):
        scheduler.kept.assign(row, kept, cuts=1)
    scheduler.add([ScheduledSequence(2, [4] * 12, 12, 1)])
    assert scheduler.next() is not None
    assert (following[0].known, following[1].known) == (8, 0)
    assert (first.pages, second.pages, pages.free) == ([0, 1], [], 1)
