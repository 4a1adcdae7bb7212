"""Batches contain each request once, in order, within the limits, and end only where required."""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.planning.batches import (
    STEP_COST_TOKENS,
    BatchLimits,
    cut_batches,
    padding_share,
    sort_by_length,
)
from batchgen.records import Request, ResolvedDecoding


def request(index: int, length: int, new: int = 8) -> Request:
    return Request(index, 0, range(length), ResolvedDecoding(max_new_tokens=new), seed=0)


def requests(lengths: Sequence[int], new: int = 8) -> list[Request]:
    return [request(i, length, new) for i, length in enumerate(lengths)]


def lengths_of(batches: Iterator[list[Request]]) -> list[list[int]]:
    return [[len(r.token_ids) for r in batch] for batch in batches]


def cells(batch: Sequence[Request]) -> int:
    new = max(r.decoding.max_new_tokens for r in batch)
    return len(batch) * (max(len(r.token_ids) for r in batch) + new)


REQUESTS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 40)), max_size=60).map(
    lambda pairs: [request(i, length, new) for i, (length, new) in enumerate(pairs)]
)
LIMITS = st.builds(
    BatchLimits, st.integers(1, 20), st.integers(1, 3000), st.sampled_from(["length", "none"])
)


@given(REQUESTS, LIMITS)
def test_every_request_is_returned_once_and_in_order(
    pending: list[Request], limits: BatchLimits
) -> None:
    assert list(chain.from_iterable(cut_batches(pending, limits))) == pending


@given(REQUESTS, LIMITS)
def test_only_a_single_oversized_request_exceeds_the_limits(
    pending: list[Request], limits: BatchLimits
) -> None:
    for batch in cut_batches(pending, limits):
        assert 1 <= len(batch) <= limits.rows
        assert len(batch) == 1 or cells(batch) <= limits.tokens


@given(REQUESTS, LIMITS)
def test_padding_costs_less_than_another_batch(pending: list[Request], limits: BatchLimits) -> None:
    for batch in cut_batches(sort_by_length(pending), limits):
        longest = max(len(r.token_ids) for r in batch)
        padding = sum(longest - len(r.token_ids) for r in batch)
        steps = max(r.decoding.max_new_tokens for r in batch)
        assert limits.sort == "none" or padding <= STEP_COST_TOKENS * steps


@given(REQUESTS, LIMITS)
def test_a_batch_ends_only_where_the_next_request_does_not_fit(
    pending: list[Request], limits: BatchLimits
) -> None:
    batches = list(cut_batches(pending, limits))
    for batch, following in pairwise(batches):
        joined = [*batch, following[0]]
        assert len(list(cut_batches(joined, limits))) == 2


@given(REQUESTS)
def test_the_order_is_longest_first_and_stable(pending: list[Request]) -> None:
    ordered = sort_by_length(pending)
    assert ordered == sorted(pending, key=lambda r: (-len(r.token_ids), r.index))


@pytest.mark.parametrize(
    ("lengths", "limits", "expected"),
    [
        pytest.param([], BatchLimits(4, 100), [], id="nothing"),
        pytest.param([5] * 9, BatchLimits(4, 10**6), [[5] * 4, [5] * 4, [5]], id="rows"),
        pytest.param([5] * 5, BatchLimits(9, 26), [[5, 5], [5, 5], [5]], id="2 x (5 + 8) = 26"),
        pytest.param([5] * 5, BatchLimits(9, 25), [[5]] * 5, id="25 is one too few"),
        pytest.param([99, 5], BatchLimits(9, 50), [[99], [5]], id="one too large stands alone"),
        pytest.param([5, 99, 5], BatchLimits(9, 50), [[5], [99], [5]], id="wherever it comes"),
        pytest.param([400, *[10] * 5], BatchLimits(9, 10**6), [[400], [10] * 5], id="one long prompt does not pad the rest"),
        pytest.param([266, 10], BatchLimits(9, 10**6), [[266, 10]], id="256 = 32 x 8 padded tokens cost a batch of 8 steps"),
        pytest.param([267, 10], BatchLimits(9, 10**6), [[267], [10]], id="257 cost more"),
        pytest.param([10] * 4 + [400], BatchLimits(9, 10**6), [[10] * 4, [400]], id="the next part's long prompts start anew"),
        pytest.param([10] * 4 + [40], BatchLimits(9, 10**6), [[10] * 4 + [40]], id="unless they are hardly longer"),
        pytest.param([400, *[10] * 5], BatchLimits(9, 10**6, "none"), [[400, *[10] * 5]], id="unsorted batches do not mind padding"),
    ],
)  # fmt: skip
def test_batch_boundaries(
    lengths: list[int], limits: BatchLimits, expected: list[list[int]]
) -> None:
    assert lengths_of(cut_batches(requests(lengths), limits)) == expected


def test_the_largest_answer_limit_applies_to_every_row() -> None:
    pending = [request(0, 10, new=5), request(1, 10, new=90), request(2, 10, new=5)]
    assert [len(b) for b in cut_batches(pending, BatchLimits(9, 200))] == [2, 1]


class Tap:
    """Counts how many requests have been pulled."""

    def __init__(self, pending: Sequence[Request]) -> None:
        self.pending = pending
        self.pulled = 0

    def __iter__(self) -> Iterator[Request]:
        for one in self.pending:
            self.pulled += 1
            yield one


@pytest.mark.parametrize(
    ("limits", "ahead"),
    [
        pytest.param(BatchLimits(3, 10**6), 0, id="a full batch pulls no more"),
        pytest.param(BatchLimits(99, 40), 1, id="a batch cut by tokens has seen one more"),
    ],
)
def test_requests_are_pulled_only_when_needed(limits: BatchLimits, ahead: int) -> None:
    tap = Tap(requests([5] * 12))
    taken = 0
    batches = cut_batches(tap, limits)
    assert tap.pulled == 0
    for _ in range(3):
        taken += len(next(batches))
        assert tap.pulled == taken + ahead


@pytest.mark.parametrize(
    ("batches", "share"),
    [
        ([], 0.0),
        ([[]], 0.0),
        ([[7, 7, 7]], 0.0),
        ([[10, 5]], 0.25),
        ([[10, 5], [2, 2]], 5 / 24),
        ([[100], [1, 1]], 0.0),
    ],
)
def test_padding_share(batches: list[list[int]], share: float) -> None:
    assert padding_share(batches) == pytest.approx(share)


def test_sorting_avoids_most_of_the_padding() -> None:
    # Heavy-tailed lengths as of real prompts: e^(0.8 z) around 100, in mixed order.
    lengths = [round(100 * 2.718 ** (0.8 * ((i * 37 % 201) / 50 - 2))) for i in range(402)]
    limits = BatchLimits(64, 10**6)
    mixed = padding_share(
        lengths_of(cut_batches(requests(lengths), BatchLimits(64, 10**6, "none")))
    )
    tidy = padding_share(lengths_of(cut_batches(sort_by_length(requests(lengths, new=64)), limits)))
    assert mixed > 0.5
    assert tidy < 0.2
