"""Out of memory: fewer rows run together; a row that does not fit alone fails, and the others use all the memory again."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from batchgen.engines.torch.continuous.continuous_tier import BatchShape
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.continuous.token_picker import SampledRow, SampledToken, TokenSampler
from batchgen.engines.torch.continuous.workers import Forward
from batchgen.errors import ResourceError
from batchgen.records import Completion, Request, ResolvedDecoding
from tests.engines.torch.continuous.tiny_continuous_tier import (
    CAPACITIES,
    Capacity,
    own_forward,
    slots,
)
from tests.engines.torch.tiny_models import CPU, alone, by_row, prompts, requests, tiny_model

SOME = prompts()
LONG = [7, 30, 12, 55, 41, 8, 19, 90, 33, 21, 64, 13, 77, 50, 6, 28, 85, 42, 17, 39]
SHORT = LONG[:0:-2]
SHARED = [begin + p for p in SOME[:3] for begin in (LONG, SHORT)] + SOME[3:]
"""Prompts of which three begin with 20 tokens, three with 10 others, and two with none of these."""


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return tiny_model("llama")


def whole(model: PreTrainedModel, request: Request) -> list[int]:
    (answer,) = alone(model, request.token_ids, max_new_tokens=request.decoding.max_new_tokens)
    return answer


def failed_for_memory(answer: Completion) -> bool:
    return answer.failure is not None and answer.failure.code == "out_of_memory"


@pytest.mark.parametrize("token_ids", [SOME, SHARED])
@pytest.mark.parametrize(
    "capacity", [Capacity(lost=range(1000)), Capacity(BatchShape(1, 1), lost=range(1000))]
)
def test_one_token_that_does_not_fit_ends_the_run(
    llama: PreTrainedModel, token_ids: list[list[int]], capacity: Capacity
) -> None:
    tier = slots(own_forward(llama), capacity)
    with pytest.raises(ResourceError, match="one token of one row does not fit"):
        list(tier.generate(requests(token_ids)))


# Rows.


def short_of_memory(forward: Forward) -> Forward:
    """A forward that runs out of memory at the 35th token of a row or of a prefix."""

    def limited(batch: StepBatch, store: KVStore) -> Tensor:
        if int(batch.positions.max()) >= 34:
            raise torch.OutOfMemoryError
        return forward(batch, store)

    return limited


SOME_CAPACITIES = ["one place", "all places, prompts in chunks", "a window of two"]


@pytest.mark.parametrize("capacity", SOME_CAPACITIES)
def test_rows_that_run_out_of_memory_alone_fail_and_free_their_memory(
    llama: PreTrainedModel, capacity: str
) -> None:
    ten, sixty = (ResolvedDecoding(max_new_tokens=n) for n in (10, 60))
    submitted = requests([*SOME, SOME[1] * 40, SOME[2]], *[ten] * len(SOME), ten, sixty)
    tier = slots(short_of_memory(own_forward(llama)), CAPACITIES[capacity])
    found = by_row(tier.generate(submitted))
    assert len(found) == len(submitted)
    fits = [one for one in submitted if len(one.token_ids) + one.decoding.max_new_tokens <= 34]
    assert len(fits) >= 3
    for request in fits:
        assert list(found[request.index].token_ids) == whole(llama, request)
    assert all(failed_for_memory(found[one.index]) for one in submitted[-2:])
    assert tier.facts()["max_rows"] == CAPACITIES[capacity].shape.rows
    assert tier.facts()["step_tokens"] == CAPACITIES[capacity].shape.step_tokens


@pytest.mark.parametrize("capacity", [Capacity(lost=(2, 6, 10)), Capacity(unread=(2, 6, 10))])
def test_a_row_alone_continues_after_the_token_that_ran_out_of_memory(
    llama: PreTrainedModel, capacity: Capacity
) -> None:
    tier = slots(own_forward(llama), capacity)
    (request,) = requests(SOME[:1])
    (answer,) = tier.generate([request])
    assert list(answer.token_ids) == whole(llama, request)
    assert tier.facts()["out_of_memory"] == 3
    assert tier.facts()["max_rows"] == 1


class Starving(TokenSampler):
    """A picker that runs out of memory for one row in any batch."""

    def __init__(self, row: int) -> None:
        super().__init__(CPU)
        self._row = row

    def sample(self, submitted: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        if any(one.request.index == self._row and one.step == 2 for one in submitted):
            raise torch.OutOfMemoryError
        return super().sample(submitted, logits)


@pytest.mark.parametrize("capacity", SOME_CAPACITIES)
def test_a_row_without_memory_for_sampling_fails_alone(
    llama: PreTrainedModel, capacity: str
) -> None:
    submitted = requests(SHARED)
    tier = slots(own_forward(llama), CAPACITIES[capacity], sampler=Starving(2))
    found = by_row(tier.generate(submitted))
    assert failed_for_memory(found.pop(2))
    assert len(found) == len(submitted) - 1
    for row, answer in found.items():
        assert list(answer.token_ids) == whole(llama, submitted[row])
    assert tier.facts()["out_of_memory"]
    assert tier.facts()["max_rows"] == CAPACITIES[capacity].shape.rows


# Shared prefixes.


class ShortForPrefixes:
    """A forward that runs out of memory at a prefix's tokens from a given one on.

    Attributes:
        seen: lengths of the prefixes that rows looked at.
    """

    def __init__(self, forward: Forward, first: int) -> None:
        self._forward = forward
        self._first = first
        self.seen: set[int] = set()

    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        of_prefixes = int(batch.pages[0, 0]) >= store.sizes.pages and not batch.reaches
        if of_prefixes and int(batch.positions.max()) >= self._first:
            raise torch.OutOfMemoryError
        self.seen |= {reach.length for reach in batch.reaches}
        return self._forward(batch, store)


PLACES = {"the first token": (0, set()), "in the middle": (15, {10}), "the last token": (19, {10})}
"""The first token of a prefix that does not fit, and how long the prefixes are that are still shared then."""


@pytest.mark.parametrize(
    "shape", [BatchShape(8, 64), BatchShape(8, 7), BatchShape(8, 19), BatchShape(1, 1)]
)
@pytest.mark.parametrize("place", PLACES)
def test_rows_continue_without_a_prefix_that_does_not_fit(
    llama: PreTrainedModel, place: str, shape: BatchShape
) -> None:
    first, still_shared = PLACES[place]
    forward = ShortForPrefixes(own_forward(llama), first)
    tier = slots(forward, Capacity(shape, KVStoreSizes(64, 4, 64)))
    submitted = requests(SHARED)
    found = by_row(tier.generate(submitted))
    assert [list(found[one.index].token_ids) for one in submitted] == [
        whole(llama, o) for o in submitted
    ]
    facts = tier.facts()
    assert facts["prefixes"] == 2
    assert facts["out_of_memory"]
    assert forward.seen == still_shared
    assert (facts["max_rows"], facts["step_tokens"]) == (shape.rows, shape.step_tokens)


def test_only_rows_that_do_not_fit_without_their_prefix_fail(
    llama: PreTrainedModel,
) -> None:
    submitted = requests([[*LONG, *LONG, *p] for p in SOME[:3]] + SHARED[-2:] + [SHORT])
    tier = slots(
        short_of_memory(own_forward(llama)), Capacity(BatchShape(8, 64), KVStoreSizes(64, 4, 64))
    )
    found = by_row(tier.generate(submitted))
    assert tier.facts()["prefixes"] == 1
    assert [failed_for_memory(found[row]) for row in range(6)] == [True] * 3 + [False] * 3
    for request in submitted[3:]:
        assert list(found[request.index].token_ids) == whole(llama, request)
