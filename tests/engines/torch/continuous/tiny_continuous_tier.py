"""Continuous batching of a tiny model, with as little memory as a test needs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import PreTrainedModel

from batchgen.engines.torch.continuous.continuous_tier import (
    BatchShape,
    ContinuousTier,
    StepBackend,
)
from batchgen.engines.torch.continuous.forward.llama import LlamaForward
from batchgen.engines.torch.continuous.kv_store import KVStore, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.continuous.token_picker import TokenSampler
from batchgen.engines.torch.continuous.workers import Forward, InProcess, StepWorkers
from batchgen.engines.torch.likelihoods.by_steps import StepLikelihoods
from batchgen.planning.scheduler import ExpectedLength
from tests.engines.torch.tiny_models import CPU, options

_SHAPE = BatchShape(rows=8, step_tokens=512)
_SIZES = KVStoreSizes(pages=64, page_size=16, arena=64)


@dataclass(frozen=True)
class Capacity:
    """The batch size, and the steps that run out of memory: in the forward, or when their logits are read."""

    shape: BatchShape = _SHAPE
    sizes: KVStoreSizes = _SIZES
    lost: Collection[int] = ()
    unread: Collection[int] = ()
    expected: ExpectedLength = lambda limit: limit


WIDE = Capacity()
CAPACITIES = {
    "one place": Capacity(BatchShape(1, 512)),
    "three places, nothing shared": Capacity(BatchShape(3, 512, share_prefixes=False)),
    "all places, prompts in chunks": Capacity(BatchShape(8, 7), KVStoreSizes(64, 4, 64)),
    "too few pages": Capacity(
        BatchShape(8, 64), KVStoreSizes(28, 2, 16), expected=lambda _limit: 0
    ),
    "memory runs out": Capacity(BatchShape(8, 64), KVStoreSizes(64, 4, 64), lost=(0, 3)),
    "memory runs out at the logits": Capacity(
        BatchShape(8, 64), KVStoreSizes(64, 4, 64), unread=(1, 5)
    ),
    "a window of two": Capacity(BatchShape(4, 64, window=2)),
}


class Losing:
    """A forward that runs out of memory at some steps, after it has written keys and values."""

    def __init__(self, forward: Forward, lost: Collection[int]) -> None:
        self._forward = forward
        self._lost = lost
        self._steps = 0

    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        self._steps += 1
        logits = self._forward(batch, store)
        if self._steps - 1 in self._lost:
            raise torch.OutOfMemoryError
        return logits


class Unreadable(Tensor):
    """Logits that run out of memory when read."""

    @classmethod
    def __torch_function__(cls, *_: Any) -> NoReturn:
        raise torch.OutOfMemoryError


class LosingWorkers(InProcess):
    """A worker that runs out of memory at some steps, in the forward or after it."""

    def __init__(self, forward: Forward, capacity: Capacity) -> None:
        super().__init__(Losing(forward, capacity.lost))
        self._unread = capacity.unread
        self._steps = 0

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        self._steps += 1
        logits = super().compute(parts, store)
        return logits.as_subclass(Unreadable) if self._steps - 1 in self._unread else logits


def own_forward(model: PreTrainedModel) -> Forward:
    forward = LlamaForward.of(model, packable=10**9)
    assert forward is not None
    return forward


def slots(
    forward: Forward,
    capacity: Capacity = WIDE,
    *,
    store: KVStore | None = None,
    sampler: TokenSampler | None = None,
    workers: StepWorkers | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ContinuousTier:
    """The continuous tier without a probe before it."""
    backend = StepBackend(
        workers or LosingWorkers(forward, capacity),
        store or KVStore(capacity.sizes, private_zeros),
        sampler or TokenSampler(CPU),
        CPU,
    )
    return ContinuousTier(backend, capacity.shape, options(should_stop), expected=capacity.expected)


def slot_likelihoods(forward: Forward, capacity: Capacity = WIDE) -> StepLikelihoods:
    """The likelihoods of the continuous tier without a probe before it."""
    backend = StepBackend(
        LosingWorkers(forward, capacity),
        KVStore(capacity.sizes, private_zeros),
        TokenSampler(CPU),
        CPU,
    )
    return StepLikelihoods(backend, capacity.shape, lambda: False)
