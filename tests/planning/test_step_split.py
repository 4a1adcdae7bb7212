"""A step split into parts: complete, in order, about equal work for each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment, Step, StepKind
from batchgen.planning.step_split import StepSplitter, cut_evenly, fewest_tokens, split_step

FEWEST = fewest_tokens(2, 2, in_tiles=False)


def decode(*cached: int) -> Step:
    """One token per row, with the given numbers of cached tokens."""
    rows = [
        ScheduledSequence(n, [1] * (held + 1), held, 9, cached=held)
        for n, held in enumerate(cached)
    ]
    return Step(StepKind.DECODE, tuple(Segment(row, 1, drawn=1) for row in rows))


def prefill(*counts: int) -> Step:
    """Prompts of the given lengths."""
    rows = [ScheduledSequence(n, [1] * count, count, 9) for n, count in enumerate(counts)]
    return Step(StepKind.PREFILL, tuple(Segment(row, row.prompt, drawn=1) for row in rows))


@pytest.mark.parametrize(
    ("step", "parts", "lengths"),
    [
        pytest.param(decode(*[0] * 48), 1, [48], id="one part is the whole"),
        pytest.param(decode(*[0] * 48), 2, [24, 24], id="halves"),
        pytest.param(decode(*[0] * 90), 3, [30, 30, 30], id="thirds"),
        pytest.param(decode(*[0] * 47), 2, [47], id="too few tokens"),
        pytest.param(decode(*[9000] * 47), 2, [47], id="the tail of a batch, with long contexts"),
        pytest.param(decode(*[0] * 48), 3, [48], id="too few tokens for three"),
        pytest.param(decode(*[6000] * 12, *[0] * 48), 2, [12, 48], id="long rows weigh more"),
        pytest.param(decode(600_000, *[0] * 48), 2, [49], id="one row that outweighs all others"),
        pytest.param(prefill(30, 30), 2, [1, 1], id="two prompts"),
        pytest.param(prefill(200, 20, 20), 2, [3], id="a prompt is not cut"),
        pytest.param(prefill(120, 60, 60), 2, [1, 2], id="one long, two short"),
        pytest.param(prefill(200), 2, [1], id="one prompt"),
        pytest.param(prefill(20, 20), 2, [2], id="two short prompts"),
    ],
)
def test_parts(step: Step, parts: int, lengths: list[int]) -> None:
    assert [len(part.segments) for part in split_step(step, parts, FEWEST)] == lengths


def test_parts_with_products_of_tiles_have_more_tokens_and_without_threads_fewer() -> None:
    assert fewest_tokens(2, 2, in_tiles=True) > FEWEST
    assert fewest_tokens(2, 1, in_tiles=False) < FEWEST


@pytest.mark.parametrize(
    ("work", "parts", "runs"),
    [
        ([1, 1, 1, 1], 2, [(0, 2), (2, 4)]),
        ([3, 1, 1, 1], 2, [(0, 1), (1, 4)]),
        ([9, 1], 3, [(0, 1), (1, 2)]),
        ([5], 2, [(0, 1)]),
    ],
)
def test_a_sequence_is_cut_evenly(work: list[int], parts: int, runs: list[tuple[int, int]]) -> None:
    assert cut_evenly(work, parts) == runs


def test_prefixes_are_never_split() -> None:
    prefixes = [
        Prefix(n, [1] * 50, users=2, arena_range=range(50 * n, 50 * n + 50)) for n in range(4)
    ]
    step = Step(StepKind.PREFILL, tuple(Segment(prefix, 50, drawn=0) for prefix in prefixes))
    assert split_step(step, 2, FEWEST) == [step]


def work(step: Step) -> float:
    """Attention to 2,000 earlier tokens costs as much as the token itself."""
    total = 0.0
    for segment in step.segments:
        assert isinstance(segment.owner, ScheduledSequence)
        earlier = segment.owner.cached + segment.count / 2
        total += segment.count * (1 + earlier / 2000)
    return total


@given(
    sizes=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 5000)), min_size=1, max_size=60),
    parts=st.integers(1, 8),
)
def test_parts_cover_the_step_in_order_and_are_balanced(
    sizes: list[tuple[int, int]], parts: int
) -> None:
    rows = [
        ScheduledSequence(n, [1] * (c + held), c + held, 9, cached=held)
        for n, (c, held) in enumerate(sizes)
    ]
    step = Step(StepKind.PREFILL, tuple(Segment(row, row.pending, drawn=1) for row in rows))
    found = split_step(step, parts, FEWEST)
    assert len(found) in {1, parts}
    assert [segment for part in found for segment in part.segments] == list(step.segments)
    assert [row for part in found for row in part.rows] == step.rows
    assert {part.kind for part in found} == {step.kind}
    if len(found) > 1:
        assert step.tokens >= parts * FEWEST
        assert all(part.segments for part in found)
        assert max(map(work, found)) <= 1.3 * work(step) / parts * (1 + 1e-9)


@given(rows=st.integers(16, 800), parts=st.integers(2, 8), cached=st.integers(0, 3000))
def test_enough_rows_of_equal_length_are_always_split(rows: int, parts: int, cached: int) -> None:
    lengths = [len(part.segments) for part in split_step(decode(*[cached] * rows), parts, FEWEST)]
    if rows < parts * FEWEST:
        assert lengths == [rows]
    else:
        assert len(lengths) == parts
        assert max(lengths) - min(lengths) <= 1


def ways(splitter: StepSplitter, rows: int, steps: int, seconds: dict[bool, float]) -> list[bool]:
    """Whether each of some equal decode steps is split, if a split step and another one take so long."""
    taken = []
    for _ in range(steps):
        step = decode(*[9] * rows)
        parts = splitter.split(step)
        splitter.add_time(step, len(parts), seconds[len(parts) > 1])
        taken.append(len(parts) > 1)
    return taken


@pytest.mark.parametrize(
    ("rows", "first", "seconds", "last"),
    [
        pytest.param(8, False, {True: 2.0, False: 1.0}, False, id="the rule is right, few rows"),
        pytest.param(96, True, {True: 1.0, False: 2.0}, True, id="the rule is right, many rows"),
        pytest.param(
            8, False, {True: 1.0, False: 3.0}, True, id="barriers wait for other programs"
        ),
        pytest.param(96, True, {True: 2.0, False: 1.0}, False, id="one process is faster"),
        pytest.param(8, False, {True: 0.95, False: 1.0}, False, id="hardly faster"),
    ],
)
def test_the_faster_way_is_taken(
    rows: int, first: bool, seconds: dict[bool, float], last: bool
) -> None:
    taken = ways(StepSplitter(2, FEWEST, learns=True), rows, 600, seconds)
    assert taken[:16] == [first] * 16, "the rule"
    assert taken[16] is not first, "the first trial"
    assert taken.count(not last) <= (16 if first != last else 0) + 6, "trials become rare"
    assert taken[17:48] == [last] * 31 or first != last


def test_what_other_programs_cost_is_noticed_when_they_end() -> None:
    splitter = StepSplitter(2, FEWEST, learns=True)
    assert ways(splitter, 8, 100, {True: 1.0, False: 3.0})[-1]
    assert not ways(splitter, 8, 600, {True: 1.0, False: 0.5})[-1]


def test_sizes_are_timed_apart() -> None:
    splitter = StepSplitter(2, FEWEST, learns=True)
    assert ways(splitter, 8, 40, {True: 1.0, False: 3.0})[-1]
    assert not any(ways(splitter, 20, 16, {True: 1.0, False: 3.0}))


def test_a_step_that_cannot_be_split_is_whole_for_ever() -> None:
    assert not any(ways(StepSplitter(2, FEWEST, learns=True), 1, 100, {False: 1.0}))


@pytest.mark.parametrize("learned", [True, False])
def test_rows_with_a_shared_prefix_are_split_by_the_rule_unless_their_bits_stay(
    learned: bool,
) -> None:
    splitter = StepSplitter(2, FEWEST, learns=True, with_prefixes=learned)
    prefix = Prefix(1, [1] * 9, users=8, computed=9, arena_range=range(9))
    parts = set()
    for _ in range(40):
        step = decode(*[9] * 8)
        for row in step.rows:
            row.prefix = prefix
        parts.add(len(splitter.split(step)))
        splitter.add_time(step, 1, 9.0)
    assert parts == ({1, 2} if learned else {1})


@pytest.mark.parametrize(("rows", "split"), [(8, False), (96, True)])
def test_without_learning_the_rule_decides(rows: int, split: bool) -> None:
    seconds = {split: 9.0, not split: 1.0}
    assert ways(StepSplitter(2, FEWEST, learns=False), rows, 100, seconds) == [split] * 100
