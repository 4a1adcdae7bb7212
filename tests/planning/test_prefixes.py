"""Shared prefixes: the choice that saves most tokens; the oracle tries all choices on small cases."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.planning.prefixes import SharedPrefix, find_shared_prefixes

Prompts = Sequence[Sequence[int]]


@pytest.mark.parametrize(
    ("prompts", "found"),
    [
        pytest.param([[1, 2]], [], id="one prompt shares nothing"),
        pytest.param([[1, 2], [3, 4]], [], id="nothing in common"),
        pytest.param([[1, 2, 3], [1, 2, 4]], [SharedPrefix(2, (0, 1))], id="two share two"),
        pytest.param(
            [[1, 2], [1, 2], [1, 2]], [SharedPrefix(1, (0, 1, 2))], id="equal: last token alone"
        ),
        pytest.param([[1], [1, 2]], [], id="a prompt of one token shares nothing"),
        pytest.param(
            [[5, 5, 1], [5, 5, 2], [5, 5, 8, 8, 3], [5, 5, 8, 8, 4]],
            [SharedPrefix(2, (0, 1, 2, 3))],
            id="all share a little",
        ),
        pytest.param(
            [[5, 1], [5, 8, 8, 8, 3], [5, 8, 8, 8, 4]],
            [SharedPrefix(4, (1, 2))],
            id="two share much",
        ),
    ],
)
def test_shared_prefixes(prompts: Prompts, found: list[SharedPrefix]) -> None:
    assert find_shared_prefixes(prompts, min_saving=1) == found


def test_small_savings_are_ignored() -> None:
    assert find_shared_prefixes([[1, 2, 3], [1, 2, 4]], min_saving=3) == []


def best_saving(prompts: Prompts, depth: int = 0) -> int:
    """The most tokens that one shared prefix per prompt can save, by trying all prefixes."""
    if len(prompts) < 2:
        return 0
    shortest = min(map(len, prompts))
    while depth < shortest and len({prompt[depth] for prompt in prompts}) == 1:
        depth += 1
    here = min(depth, shortest - 1) * (len(prompts) - 1)
    branches: dict[int, list[Sequence[int]]] = {}
    for prompt in prompts:
        if len(prompt) > depth:
            branches.setdefault(prompt[depth], []).append(prompt)
    return max(here, sum(best_saving(branch, depth + 1) for branch in branches.values()))


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=9))
def test_the_choice_is_optimal(prompts: list[list[int]]) -> None:
    found = find_shared_prefixes(prompts, min_saving=1)
    members = [member for shared in found for member in shared.members]
    assert len(set(members)) == len(members), "no prompt is in two"
    for shared in found:
        assert len({tuple(prompts[m][: shared.length]) for m in shared.members}) == 1
        assert all(shared.length < len(prompts[m]) for m in shared.members)
    assert sum(shared.saving for shared in found) == best_saving(prompts)
