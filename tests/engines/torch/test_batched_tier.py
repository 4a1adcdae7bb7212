"""Batches that do not fit are split, and a row that never fits fails alone."""

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch

from batchgen.engines.torch.batched_tier import BatchedTier
from batchgen.planning.batches import BatchLimits
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.engines.torch.tiny_models import CPU, options

NEW = 10


class Tight:
    """A runner with memory for a number of tokens; answers half of a batch before it runs out."""

    name = "tight"

    def __init__(self, capacity: int, error: Callable[[], BaseException]) -> None:
        self._capacity = capacity
        self._error = error
        self.batches: list[list[int]] = []

    new_tokens = 0

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.batches.append([r.index for r in requests])
        tokens = len(requests) * (max(len(r.token_ids) for r in requests) + NEW)
        for place, request in enumerate(requests):
            if tokens > self._capacity and place >= len(requests) // 2:
                raise self._error()
            yield Completion(request.index, 0, (1,), "", "length")


def requests_of(lengths: Sequence[int]) -> list[Request]:
    decoding = ResolvedDecoding(max_new_tokens=NEW)
    return [Request(i, 0, [1] * n, decoding, 0) for i, n in enumerate(lengths)]


def tier(runner: Tight, rows: int = 8) -> BatchedTier:
    return BatchedTier(runner, BatchLimits(rows, 10_000, "none"), CPU, options())


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory"),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError,
    ],
    ids=["cuda", "cpu allocator", "python"],
)
def test_every_row_is_answered_once_after_splits(error: Callable[[], BaseException]) -> None:
    runner = Tight(45, error)
    answers = tier(runner)
    found = list(answers.generate(requests_of([10] * 12)))
    assert sorted(c.index for c in found) == list(range(12))
    assert all(c.failure is None for c in found)
    assert answers.facts()["splits"] == 2
    assert runner.batches == [
        [0, 1, 2, 3, 4, 5, 6, 7],  # 160 tokens; 0 to 3 were answered before it failed
        [4, 5],
        [6, 7],
        [8, 9, 10, 11],  # 80 tokens; 8 and 9 were answered
        [10],
        [11],
    ]


def test_later_batches_stay_below_the_size_that_did_not_fit() -> None:
    runner = Tight(100, MemoryError)
    list(tier(runner).generate(requests_of([10] * 8 + [10] * 8)))
    # 160 tokens failed, so 128 are the limit: the second batch is halved before it is tried.
    assert [len(batch) for batch in runner.batches] == [8, 2, 2, 4, 4]


def test_a_row_that_never_fits_fails_alone() -> None:
    found = {c.index: c for c in tier(Tight(45, MemoryError)).generate(requests_of([10, 90, 10]))}
    assert {row: c.finish_reason for row, c in found.items()} == {
        0: "length",
        1: "error",
        2: "length",
    }
    assert found[1].failure is not None
    assert found[1].failure.code == "out_of_memory"


def test_other_errors_are_not_treated_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        list(tier(Tight(45, lambda: RuntimeError("size mismatch"))).generate(requests_of([10] * 8)))


def test_requests_are_pulled_only_when_they_fit() -> None:
    pulled: list[int] = []

    def stream() -> Iterator[Request]:
        for request in requests_of([5] * 10):
            pulled.append(request.index)
            yield request

    answers = tier(Tight(10_000, MemoryError), rows=4).generate(stream())
    next(answers)
    assert pulled == [0, 1, 2, 3]
