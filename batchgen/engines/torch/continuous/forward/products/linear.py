"""Products with constant weights: packed by oneDNN where that works, otherwise plain.

    weights     packed copy     products
    float32     float32         as torch computes them, by oneDNN or by kernels of our own (`compiled_linear.py`)
    bfloat16    bfloat16        bfloat16, summed in float32      processors with instructions for that: by oneDNN, or with
                                                                 AMX by kernels of our own (`tile_linear.py`)
    bfloat16    float32         the same, by float32 products    other processors: torch's would take ten times as long

A packed product is as fast or faster at any number of rows, applies SiLU, add or multiply while the result is in cache,
and computes each row identically in any batch: the plain one uses another kernel for one to three rows. (That of oneDNN in
bfloat16 does so within groups of row counts only: `GroupedLinear`.) The packed copy takes the place of the weight, which is
freed (`weights/weight_release.py`). The operators are private in torch, so
they are tested once (`packing_works`) and not used if they are missing or wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.engines.torch.continuous.forward.products.compiled_linear import (
    CompiledLinear,
    compiled_is_faster,
)
from batchgen.engines.torch.continuous.forward.products.panel_linear import (
    Allocate,
    PanelLinear,
    link_products,
)
from batchgen.engines.torch.continuous.forward.products.tile_linear import (
    TileLinear,
    tiles_are_faster,
)
from batchgen.engines.torch.continuous.row_counts import ProductRows
from batchgen.engines.torch.weights.large_pages import LargePages


class Linear(Protocol):
    """Product with a weight, plus a bias."""

    @property
    def outputs(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor:
        """X [rows, in] times the weight: [rows, out]."""

    def silu(self, x: Tensor) -> Tensor:
        """SiLU of the product: [rows, out]."""

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """`to` [rows, out] plus the product; may overwrite `to`, which may be float32 where x is not."""

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        """`by` [rows, out] times the product, elementwise; may overwrite `by`."""

    def logits(self, x: Tensor) -> Tensor:
        """The product, in float32 where torch's own is not used: samplers read that several times as fast as bfloat16."""


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
        if to.dtype != x.dtype:
            return to.add_(self(x))
        if self._bias is not None:
            to += self._bias
        return to.addmm_(x, self._transposed)

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return by.mul_(self(x))

    def logits(self, x: Tensor) -> Tensor:
        return self(x)


class PackedLinear:
    """oneDNN's product with a packed copy of the weight. See `Linear`."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy a weight on a CPU."""
        self.outputs = weight.shape[0]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return self._then(x, "none")

    def silu(self, x: Tensor) -> Tensor:
        return self._then(x, "swish")

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        if to.dtype != x.dtype:
            return to.add_(self(x))
        return self._with(x, to, "add")

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return self._with(x, by, "mul")

    def logits(self, x: Tensor) -> Tensor:
        return self(x).float()

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


class WidenedLinear:
    """Products of bfloat16 by a packed float32 copy of the weight: exact products, rounded once. See `Linear`."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, allocate: Allocate = torch.empty
    ) -> None:
        wide = weight.float(), None if bias is None else bias.float()
        self._wide = float32_linear(*wide, allocate)
        self.outputs = self._wide.outputs

    def __call__(self, x: Tensor) -> Tensor:
        return self._wide(x.float()).to(x.dtype)

    def silu(self, x: Tensor) -> Tensor:
        return self._wide.silu(x.float()).to(x.dtype)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        return self._wide.add(x.float(), to.float()).to(to.dtype)

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return self._wide.multiply(x.float(), by.float()).to(by.dtype)

    def logits(self, x: Tensor) -> Tensor:
        return self._wide(x.float())


class GroupedLinear:
    """Computes a product at counts of rows that give a row the same bits. See `Linear`.

    The rows of a step are padded to such counts once, by the forward: here they are only cut.
    """

    def __init__(self, whole: Linear, counts: ProductRows) -> None:
        self.outputs = whole.outputs
        self._whole = whole
        self._counts = counts

    def __call__(self, x: Tensor) -> Tensor:
        return self._cut(self._whole, x)

    def silu(self, x: Tensor) -> Tensor:
        return self._cut(self._whole.silu, x)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        return self._cut(self._whole.add, x, to)

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        return self._cut(self._whole.multiply, x, by)

    def logits(self, x: Tensor) -> Tensor:
        return self._cut(self._whole.logits, x)

    def _cut(self, compute: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        pieces = self._counts.cut(len(rows[0]))
        if len(pieces) == 1:
            return compute(*rows)
        return torch.cat(
            [compute(*parts) for parts in zip(*(r.split(pieces) for r in rows), strict=True)]
        )


def float32_linear(weight: Tensor, bias: Tensor | None, allocate: Allocate = torch.empty) -> Linear:
    """The faster product with a packed copy of a float32 weight on a CPU; oneDNN allocates its own copy."""
    if compiled_is_faster() and CompiledLinear.suits(weight):
        return CompiledLinear(weight, bias, allocate)
    return PackedLinear(weight, bias)


def bfloat16_linear(
    weight: Tensor, bias: Tensor | None, allocate: Allocate = torch.empty
) -> Linear:
    """The faster product with a packed copy of a bfloat16 weight on a CPU with such products."""
    if tiles_are_faster() and TileLinear.suits(weight):
        return TileLinear(weight, bias, allocate)
    return PackedLinear(weight, bias)


def gated(gate: Linear, up: Linear, x: Tensor) -> Tensor:
    """SiLU of one product times another."""
    if isinstance(gate, PanelLinear) and type(gate) is type(up):
        return gate.gated(x, up)
    return up.multiply(x, gate.silu(x))


def link_compiled(order: Sequence[Linear]) -> None:
    """Let each compiled product prefetch the next one; `order`: that in which they are used."""
    link_products([linear for linear in order if isinstance(linear, PanelLinear)])


def _four_at_least(rows: Tensor) -> Tensor:
    # One row would use another kernel with another order of summation; two or three take a third longer than four.
    missing = 4 - len(rows)
    return functional.pad(rows, (0, 0, 0, missing)) if missing > 0 else rows


@dataclass(frozen=True, slots=True)
class Packing:
    """A packed copy of a model's weights: its number format, and the bytes it takes."""

    dtype: torch.dtype
    bytes: int


def choose_packing(
    weight_bytes: int, device: torch.device, dtype: torch.dtype, packable: int
) -> Packing | None:
    """The packed copy to make of a model's weights; None if packing does not work or it takes over `packable` bytes."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.bfloat16):
        return None
    native = dtype == torch.bfloat16 and has_bfloat16_products() and packing_works(torch.bfloat16)
    packed = dtype if native else torch.float32
    size = weight_bytes // dtype.itemsize * packed.itemsize
    return Packing(packed, size) if size <= packable and packing_works(packed) else None


def linear_for(dtype: torch.dtype, packing: Packing | None) -> MakeLinear:
    """Makes the products of a model with weights of `dtype`."""
    if packing is None:
        return PlainLinear
    make: Callable[..., Linear]
    if packing.dtype == torch.bfloat16:
        make = bfloat16_linear
    else:
        make = float32_linear if dtype == torch.float32 else WidenedLinear
    return partial(make, allocate=LargePages().empty)


@cache
def packing_works(dtype: torch.dtype = torch.float32) -> bool:
    """Whether packed products are available here and correct, tested with a small weight."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    weight, bias, x, other = drawn(48, 32), drawn(48), drawn(5, 32), drawn(5, 48)
    try:
        packed = _results(PackedLinear(weight, bias), x, other)
    except (AttributeError, RuntimeError):
        return False
    wide = [tensor.float() for tensor in (weight, bias, x, other)]
    plain = _results(PlainLinear(*wide[:2]), *wide[2:])
    # Rounding of the result, and of the product before the operation that follows it.
    tolerance = 1e-4 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    pairs = zip(packed, plain, strict=True)
    return all(torch.allclose(a.float(), b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def _results(linear: Linear, x: Tensor, other: Tensor) -> tuple[Tensor, ...]:
    added, multiplied = linear.add(x, other.clone()), linear.multiply(x, other.clone())
    return linear(x), linear.silu(x), added, multiplied
