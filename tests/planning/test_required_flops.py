"""Useful arithmetic: counted by hand, and against the tree of all prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.planning.required_flops import (
    AnsweredRequest,
    AttentionFlops,
    ModelFlops,
    UsefulWork,
    measure_useful_work,
    utilization_share,
)
from batchgen.records import Request, ResolvedDecoding

COSTS = ModelFlops(
    token=1000.0, draw=100.0, attention=(AttentionFlops(1.0), AttentionFlops(0.5, window=3))
)
GREEDY = ResolvedDecoding(max_new_tokens=8)
SUPPRESSED = ResolvedDecoding(generation_kwargs=(("suppress_tokens", [3, 4]),))
SAMPLED = ResolvedDecoding(max_new_tokens=8, temperature=1.0)


def answered(
    prompts: Sequence[Sequence[int]], new: Sequence[int], decoding: ResolvedDecoding = SAMPLED
) -> list[AnsweredRequest]:
    pairs = zip(prompts, new, strict=True)
    return [AnsweredRequest(Request(i, 0, ids, decoding, i), n) for i, (ids, n) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("attention", "first", "last", "keys"),
    [
        pytest.param(AttentionFlops(1.0), 0, 4, 1 + 2 + 3 + 4, id="from the start"),
        pytest.param(AttentionFlops(1.0), 2, 4, 3 + 4, id="behind a shared beginning"),
        pytest.param(AttentionFlops(1.0, window=3), 0, 6, 1 + 2 + 3 + 3 + 3 + 3, id="window"),
        pytest.param(AttentionFlops(1.0, window=3), 4, 6, 3 + 3, id="all behind the window"),
        pytest.param(AttentionFlops(7.0), 0, 1, 7, id="per pair"),
        pytest.param(AttentionFlops(1.0), 3, 3, 0, id="nothing"),
    ],
)
def test_a_token_attends_to_itself_and_all_earlier_ones(
    attention: AttentionFlops, first: int, last: int, keys: int
) -> None:
    assert attention.flops(first, last) == keys


@pytest.mark.parametrize(
    ("prompts", "new", "decoding", "tokens", "draws"),
    [
        pytest.param([[1, 2, 3]], [1], SAMPLED, 3, 1, id="one token: it never goes in"),
        pytest.param([[1, 2, 3]], [4], SAMPLED, 3 + 3, 4, id="four tokens"),
        pytest.param(
            [[1, 2, 3], [1, 2, 4, 5]], [1, 2], SAMPLED, 3 + 2 + 1, 3, id="a shared beginning"
        ),
        pytest.param([[1, 2], [3, 4]], [1, 1], SAMPLED, 4, 2, id="nothing in common"),
        pytest.param([[1, 2], [1, 2]], [3, 5], GREEDY, 2 + 2, 3, id="the same greedy request"),
        pytest.param([[1, 2], [1, 2]], [3, 3], SUPPRESSED, 2 + 2, 3, id="with settings as lists"),
        pytest.param([[1, 2], [1, 2]], [3, 5], SAMPLED, 2 + 2 + 4, 3 + 4, id="two samples"),
        pytest.param([[1, 2, 3], [1, 2]], [2, 2], SAMPLED, 3 + 1 + 1, 2 + 2, id="one in another"),
        pytest.param([], [], SAMPLED, 0, 0, id="no answers"),
    ],
)
def test_every_distinct_token_counts_once(
    prompts: list[list[int]], new: list[int], decoding: ResolvedDecoding, tokens: int, draws: int
) -> None:
    without_keys = ModelFlops(token=1000.0, draw=1.0, attention=())
    found = measure_useful_work(answered(prompts, new, decoding), without_keys)
    assert found == UsefulWork(tokens, tokens * 1000.0 + draws)


@dataclass(frozen=True)
class Counted:
    tokens: int
    keys: int


def tree(prompts: Sequence[Sequence[int]], new: Sequence[int]) -> Counted:
    """The oracle: a node for each prefix of each prompt, and a separate path below for each answer."""
    nodes = {tuple(ids[:length]) for ids in prompts for length in range(1, len(ids) + 1)}
    answers = [len(ids) + step for ids, n in zip(prompts, new, strict=True) for step in range(1, n)]
    return Counted(len(nodes) + len(answers), sum(map(len, nodes)) + sum(answers))


ROWS = st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.integers(1, 5)))


@given(ROWS)
def test_sorting_finds_the_shared_tokens_of_the_prompt_tree(
    rows: list[tuple[list[int], int]],
) -> None:
    prompts, new = [ids for ids, _ in rows], [n for _, n in rows]
    found = measure_useful_work(
        answered(prompts, new), ModelFlops(0.0, 0.0, (AttentionFlops(1.0),))
    )
    assert (found.tokens, found.flops) == (
        tree(prompts, new).tokens,
        tree(prompts, new).keys,
    )


def test_the_flops_of_a_row_count_tokens_draws_and_keys() -> None:
    # Three tokens at positions 2, 3, 4: 3 + 4 + 5 keys, at most three of them in the layers with a window.
    assert COSTS.flops(2, 5, draws=2) == 3 * 1000 + 2 * 100 + 12 + 0.5 * 9


@pytest.mark.parametrize(
    ("done", "possible", "share"),
    [(1, 4, 0.25), (4, 4, 1.0), (0, 4, 0.0), (4.1, 4, None), (400, 4, None), (1, 0, None)],
)
def test_a_utilization_above_the_peak_is_not_a_measurement(
    done: float, possible: float, share: float | None
) -> None:
    assert utilization_share(done, possible) == share
