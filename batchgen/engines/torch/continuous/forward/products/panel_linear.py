"""What products by compiled kernels have in common, and when they are used: where they are faster than oneDNN's."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.kernel_check import drawn
from batchgen.engines.torch.continuous.forward.products.kept_speedup import time_in_turns

MEASURED = (1536, 576, 24)
"""Outputs, inputs and number of the weights by which speed is measured; no cache holds them together."""
_REPEATS = 12
"""With four, the first measurements of a process were wrong: 0.73 to 0.96 with AVX2, where later ones were 1.1 to 1.5, and all with twelve 1.16 to 1.29."""


class Allocate(Protocol):
    """Makes a tensor of a shape and dtype, not initialised."""

    def __call__(self, shape: tuple[int, ...], /, *, dtype: torch.dtype) -> Tensor: ...


class PanelLinear(ABC):
    """A product with a weight that is packed in panels of outputs. See `Linear`.

    Attributes:
        outputs: numbers of a result.
        ahead: address of the weight that is used next, 0 if unknown.
    """

    outputs: int
    ahead: int

    @property
    @abstractmethod
    def address(self) -> int:
        """Of the packed weight."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def gated(self, x: Tensor, up: Self) -> Tensor:
        """SiLU of the product times that of `up`, which has the same shape."""

    def silu(self, x: Tensor) -> Tensor:
        return torch.nn.functional.silu(self(x), inplace=True)

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return by.mul_(self(x))


def link_products(order: Sequence[PanelLinear]) -> None:
    """Let each product prefetch the first panel of the next, the last one that of the first."""
    for one, other in zip(order, [*order[1:], *order[:1]], strict=True):
        one.ahead = other.address


def speedup_of_kernels(
    packed: Sequence[Callable[[Tensor], object]], compiled: Sequence[PanelLinear], x: Tensor
) -> float:
    """Times of products by oneDNN relative to those by kernels.

    Both are measured as a worker uses them (one thread, all rows of `x`) and as one process does at the end of a batch (all
    threads, six rows).
    """
    link_products(compiled)
    usual = torch.get_num_threads()
    totals = [0.0, 0.0]
    try:
        for threads, rows in ((1, x), (usual, x[:6])):
            torch.set_num_threads(threads)

            def by_onednn(rows: Tensor = rows) -> None:
                for one in packed:
                    one(rows)

            def by_kernels(rows: Tensor = rows) -> None:
                for one in compiled:
                    one(rows)

            times = time_in_turns(by_onednn, by_kernels, _REPEATS)
            totals = [total + time for total, time in zip(totals, times, strict=True)]
    finally:
        torch.set_num_threads(usual)
    return totals[0] / totals[1]


def drawn_weight() -> Tensor:
    """The weight by which speed is measured."""
    return drawn(*MEASURED[:2])
