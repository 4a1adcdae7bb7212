"""Ranges of the arena never overlap, and free ranges are reused."""

from hypothesis import given
from hypothesis import strategies as st

from batchgen.planning.pages import Arena


def test_lowest_positions_are_used_first_and_gaps_are_reused() -> None:
    arena = Arena(20)
    first, second, third = (arena.allocate(n) for n in (5, 8, 4))
    assert (first, second, third) == (range(5), range(5, 13), range(13, 17))
    assert arena.allocate(4) is None
    assert second is not None
    arena.release(second)
    assert arena.allocate(3) == range(5, 8)
    assert arena.allocate(6) is None, "5 places behind it, 3 at the end: not in one piece"
    assert arena.allocate(5) == range(8, 13)


def test_ranges_begin_at_multiples_of_a_unit() -> None:
    arena = Arena(20, 8)
    first, second = arena.allocate(5), arena.allocate(9)
    assert (first, second) == (range(5), range(8, 17))
    assert arena.allocate(1) is None, "the next one would begin at 24"
    assert first is not None
    arena.release(first)
    assert arena.allocate(8) == range(8)


def test_a_full_arena() -> None:
    assert Arena(0).allocate(1) is None
    assert Arena(4).allocate(5) is None
    assert Arena(4).allocate(4) == range(4)


@given(
    total=st.integers(0, 60),
    wishes=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 10)), max_size=40),
)
def test_ranges_never_overlap_and_the_first_free_one_is_used(
    total: int, wishes: list[tuple[int, int]]
) -> None:
    arena, held = Arena(total), list[range]()
    for length, back in wishes:
        taken = {place for piece in held for place in piece}
        starts = [s for s in range(total - length + 1) if taken.isdisjoint(range(s, s + length))]
        piece = arena.allocate(length)
        assert piece == (range(starts[0], starts[0] + length) if starts else None)
        if piece is not None:
            held.append(piece)
        if back < len(held):
            arena.release(held.pop(back))
    for piece in held:
        arena.release(piece)
    assert total == 0 or arena.allocate(total) == range(total)
