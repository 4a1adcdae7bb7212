"""A step split into parts: complete, in order, about equal work for each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.planning.sequences import (
    FEWEST_TOKENS,
    Prefix,
    ScheduledSequence,
    Segment,
    Step,
    StepKind,
    split_step,
)


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
        pytest.param(decode(*[0] * 16), 1, [16], id="one part is the whole"),
        pytest.param(decode(*[0] * 16), 2, [8, 8], id="halves"),
        pytest.param(decode(*[0] * 30), 3, [10, 10, 10], id="thirds"),
        pytest.param(decode(*[0] * 15), 2, [15], id="too few tokens"),
        pytest.param(decode(*[0] * 16), 3, [16], id="too few tokens for three"),
        pytest.param(decode(*[6000] * 4, *[0] * 16), 2, [4, 16], id="long rows weigh more"),
        pytest.param(decode(60_000, *[0] * 16), 2, [17], id="one row that outweighs all others"),
        pytest.param(prefill(20, 20), 2, [1, 1], id="two prompts"),
        pytest.param(prefill(100, 10, 10), 2, [3], id="a prompt is not cut"),
        pytest.param(prefill(60, 30, 30), 2, [1, 2], id="one long, two short"),
        pytest.param(prefill(200), 2, [1], id="one prompt"),
    ],
)
def test_parts(step: Step, parts: int, lengths: list[int]) -> None:
    assert [len(part.segments) for part in split_step(step, parts)] == lengths


def test_prefixes_are_never_split() -> None:
    prefixes = [
        Prefix(n, [1] * 50, users=2, arena_range=range(50 * n, 50 * n + 50)) for n in range(4)
    ]
    step = Step(StepKind.PREFILL, tuple(Segment(prefix, 50, drawn=0) for prefix in prefixes))
    assert split_step(step, 2) == [step]


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
    found = split_step(step, parts)
    assert len(found) in {1, parts}
    assert [segment for part in found for segment in part.segments] == list(step.segments)
    assert [row for part in found for row in part.rows] == step.rows
    assert {part.kind for part in found} == {step.kind}
    if len(found) > 1:
        assert step.tokens >= parts * FEWEST_TOKENS
        assert all(part.segments for part in found)
        assert max(map(work, found)) <= 1.3 * work(step) / parts * (1 + 1e-9)


@given(rows=st.integers(16, 400), parts=st.integers(2, 8), cached=st.integers(0, 3000))
def test_enough_rows_of_equal_length_are_always_split(rows: int, parts: int, cached: int) -> None:
    lengths = [len(part.segments) for part in split_step(decode(*[cached] * rows), parts)]
    if rows < parts * FEWEST_TOKENS:
        assert lengths == [rows]
    else:
        assert len(lengths) == parts
        assert max(lengths) - min(lengths) <= 1
