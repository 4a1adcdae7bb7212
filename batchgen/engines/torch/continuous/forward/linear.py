"""Products with constant weights: packed by oneDNN where that works, otherwise plain.

A packed product is as fast or faster at any number of rows, applies SiLU, add or multiply while the result is in cache,
and computes each row identically in any batch: the plain one uses another kernel for one to three rows. It needs a second
copy of the weight. The operators are private in torch, so they are tested once (`packing_works`) and not used if they are
missing or wrong.
"""

from functools import cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Linear(Protocol):
    """Product with a weight, plus a bias."""

    @property
    def outputs(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor:
        """X [rows, in] times the weight: [rows, out]."""

    def silu(self, x: Tensor) -> Tensor:
        """SiLU of the product: [rows, out]."""

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """`to` [rows, out] plus the product; may overwrite `to`."""

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        """`by` [rows, out] times the product, elementwise; may overwrite `by`."""


class MakeLinear(Protocol):
    """Makes a `Linear` of a weight [out, in] and a bias [out]."""

    def __call__(self, weight: Tensor, bias: Tensor | None, /) -> Linear: ...


class PlainLinear:
    """torch's own product. See `Linear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.outputs = weight.shape[0]
        self._weight = weight
        self._transposed = weight.t()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._weight, self._bias)

    def silu(self, x: Tensor) -> Tensor:
        return functional.silu(self(x), inplace=True)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        if self._bias is not None:
            to += self._bias
        return to.addmm_(x, self._transposed)

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return by.mul_(self(x))


class PackedLinear:
    """oneDNN's product with a packed copy of the weight. See `Linear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy a float32 weight on a CPU."""
        self.outputs = weight.shape[0]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._then(x, "none")

    def silu(self, x: Tensor) -> Tensor:
        return self._then(x, "swish")

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        return self._with(x, to, "add")

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return self._with(x, by, "mul")

    def _then(self, x: Tensor, operation: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            _four_at_least(x), self._weight, self._bias, operation, [], ""
        )
        return result[: len(x)]

    def _with(self, x: Tensor, other: Tensor, operation: str) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            _four_at_least(x), _four_at_least(other), self._weight, self._bias, operation
        )
        return result[: len(x)]


def _four_at_least(rows: Tensor) -> Tensor:
    # One row would use another kernel with another order of summation; two or three take a third longer than four.
    missing = 4 - len(rows)
    return functional.pad(rows, (0, 0, 0, missing)) if missing > 0 else rows


def should_pack_weights(
    weight_bytes: int, device: torch.device, dtype: torch.dtype, packable: int
) -> bool:
    """Whether to make a packed copy of a model's weights: if packing works and the copy has at most `packable` bytes."""
    possible = device.type == "cpu" and dtype == torch.float32
    return possible and weight_bytes <= packable and packing_works()


@cache
def packing_works() -> bool:
    """Whether packed products are available here and correct, tested with a small weight."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 32, generator=generator)
    bias = torch.randn(48, generator=generator)
    x, other = torch.randn(5, 32, generator=generator), torch.randn(5, 48, generator=generator)
    try:
        packed = _results(PackedLinear(weight, bias), x, other)
    except (AttributeError, RuntimeError):
        return False
    plain = _results(PlainLinear(weight, bias), x, other)
    pairs = zip(packed, plain, strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs)


def _results(linear: Linear, x: Tensor, other: Tensor) -> tuple[Tensor, ...]:
    added, multiplied = linear.add(x, other.clone()), linear.multiply(x, other.clone())
    return linear(x), linear.silu(x), added, multiplied
