"""Slots over a tiny model, with as little room as a test wants."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import PreTrainedModel

from batchgen.engines.torch.continuous.continuous_tier import Machine, Shape, SlotTier
from batchgen.engines.torch.continuous.forward.llama import LlamaModel
from batchgen.engines.torch.continuous.kv_store import Sizes, Store, own_zeros
from batchgen.engines.torch.continuous.step import Batch
from batchgen.engines.torch.continuous.token_picker import Picker
from batchgen.engines.torch.continuous.workers import Forward, Lanes, OneLane
from batchgen.engines.torch.likelihoods.by_steps import SlotLikelihoods
from batchgen.planning.scheduler import ExpectedLength
from tests.engines.torch.tiny_models import CPU, setting

_SHAPE = Shape(rows=8, step_tokens=512)
_SIZES = Sizes(pages=64, page_size=16, arena=64)


@dataclass(frozen=True)
class Room:
    """How much runs together, and which steps are lost for want of memory: in the forward, or when their logits are read."""

    shape: Shape = _SHAPE
    sizes: Sizes = _SIZES
    lost: Collection[int] = ()
    unread: Collection[int] = ()
    expected: ExpectedLength = lambda limit: limit


WIDE = Room()
ROOMS = {
    "one place": Room(Shape(1, 512)),
    "three places, nothing shared": Room(Shape(3, 512, share=False)),
    "all places, prompts in chunks": Room(Shape(8, 7), Sizes(64, 4, 64)),
    "too few pages": Room(Shape(8, 64), Sizes(28, 2, 16), expected=lambda _limit: 0),
    "memory runs out": Room(Shape(8, 64), Sizes(64, 4, 64), lost=(0, 3)),
    "memory runs out at the logits": Room(Shape(8, 64), Sizes(64, 4, 64), unread=(1, 5)),
    "a window of two": Room(Shape(4, 64, window=2)),
}


class Losing:
    """A forward that runs out of memory at some steps, after it has written keys and values."""

    def __init__(self, forward: Forward, lost: Collection[int]) -> None:
        self._forward = forward
        self._lost = lost
        self._steps = 0

    def __call__(self, batch: Batch, store: Store) -> Tensor:
        self._steps += 1
        logits = self._forward(batch, store)
        if self._steps - 1 in self._lost:
            raise torch.OutOfMemoryError
        return logits


class Unreadable(Tensor):
    """Logits that there is no memory to read."""

    @classmethod
    def __torch_function__(cls, *_: Any) -> NoReturn:
        raise torch.OutOfMemoryError


class LosingLanes(OneLane):
    """A lane in which memory runs out at some steps, in the forward or behind it."""

    def __init__(self, forward: Forward, room: Room) -> None:
        super().__init__(Losing(forward, room.lost))
        self._unread = room.unread
        self._steps = 0

    def compute(self, parts: Sequence[Batch], store: Store) -> Tensor:
        self._steps += 1
        logits = super().compute(parts, store)
        return logits.as_subclass(Unreadable) if self._steps - 1 in self._unread else logits


def own_forward(model: PreTrainedModel) -> Forward:
    forward = LlamaModel.of(model, room=10**9)
    assert forward is not None
    return forward


def slots(
    forward: Forward,
    room: Room = WIDE,
    *,
    store: Store | None = None,
    picker: Picker | None = None,
    lanes: Lanes | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SlotTier:
    """The slot engine without a trial before it."""
    machine = Machine(
        lanes or LosingLanes(forward, room),
        store or Store(room.sizes, own_zeros),
        picker or Picker(CPU),
        CPU,
    )
    return SlotTier(machine, room.shape, setting(should_stop), expected=room.expected)


def slot_likelihoods(forward: Forward, room: Room = WIDE) -> SlotLikelihoods:
    """The likelihoods of the slot engine without a trial before it."""
    machine = Machine(LosingLanes(forward, room), Store(room.sizes, own_zeros), Picker(CPU), CPU)
    return SlotLikelihoods(machine, room.shape, lambda: False)
