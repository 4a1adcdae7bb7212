"""Products of float32 rows by a compiled kernel: with the bits of oneDNN's, and faster where it was measured to be.

    one thread, as in a worker    the kernel (`kernels/matmul.py`), which reads oneDNN's packed weight
    several threads               oneDNN

oneDNN waits for weights that come from memory, as all do in decoding; the kernel prefetches them. On a Zen 4 (AMD EPYC, float32),
all products of SmolLM2-135M with 24 rows take 67 ms instead of 76, with 128 rows 314 instead of 320. Since the bits are the same,
either may compute a step, and a row's bits do not depend on which one did.

oneDNN sums blocks of terms, and how many terms depends on the shape: each weight is tried with several. If none has oneDNN's
bits, or the operator that gives the packed weight's address is missing (it is private in torch), oneDNN computes all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.kept_speedup import kept_speedup, time_in_turns
from batchgen.engines.torch.continuous.forward.kernel_check import drawn, kernel_works
from batchgen.planning.host_processor import read_processor
from batchgen.storage.cache_folder import cache_folder

PANEL = 64
"""Outputs that are packed together: the same as in the kernel, which is imported only where it is used."""
_BLOCKS = (1024, 512, 768, 384, 256)
"""Terms that oneDNN may sum together, besides all."""
_MEASURED = (1536, 576, 24, 24)
"""Outputs, inputs and number of weights, which no cache holds together; and rows."""
_REPEATS = 4


@dataclass(slots=True)
class CompiledProduct:
    """The kernel for one packed weight without a bias.

    Attributes:
        address: of the packed weight; its owner keeps it.
        block: terms of a sum.
        ahead: address of the weight that is used next, 0 if unknown.
    """

    address: int
    outputs: int
    block: int
    ahead: int = 0

    def __call__(self, x: Tensor, to: Tensor | None = None) -> Tensor:
        """The product of float32 x [rows, in], plus `to` [rows, out]."""
        out = torch.empty(len(x), self.outputs)
        added = out[:0] if to is None else to.contiguous()
        arrays = x.contiguous().numpy(), added.numpy(), out.numpy()
        _multiply()(arrays[0], self.address, self.ahead, self.block, *arrays[1:])
        return out

    def gated(self, x: Tensor, up: "CompiledProduct") -> Tensor:
        """SiLU of the product times that of `up`, which has the same shape."""
        out = torch.empty(len(x), self.outputs)
        rows = x.contiguous().numpy()
        _multiply_gated()(rows, self.address, up.address, up.ahead, self.block, out.numpy())
        return out


def one_thread() -> bool:
    """Whether products are computed by the kernel, which has one thread."""
    return torch.get_num_threads() == 1 and _kernel_is_faster()


def gate_rows(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU of `gate` times `up`, with the bits of `CompiledProduct.gated`; overwrites `up`."""
    _gate_rows()(gate.numpy(), up.numpy())
    return up


def compile_product(
    packed: Tensor, shape: tuple[int, int], product: Callable[[Tensor], Tensor]
) -> CompiledProduct | None:
    """The kernel for a packed weight of this shape; None if its bits would not be those of `product`."""
    outputs, inputs = shape
    if outputs % PANEL or packed.dtype != torch.float32 or not products_work():
        return None
    try:
        address = torch.ops.mkldnn.data_ptr(packed)
        exact = torch.ops.mkldnn._nbytes(packed) == 4 * outputs * inputs
    except (AttributeError, RuntimeError):
        return None
    if not exact:
        return None
    x = drawn(5, inputs)
    wanted = product(x)
    for block in (*(one for one in _BLOCKS if one < inputs), inputs):
        compiled = CompiledProduct(address, outputs, block)
        if torch.equal(compiled(x), wanted):
            return compiled
    return None


def link_products(order: Sequence[CompiledProduct]) -> None:
    """Let each product prefetch the first panel of the next, the last one that of the first."""
    if order:
        _kernel_is_faster()  # measured, or read from disk, before worker processes are forked
    for one, other in zip(order, [*order[1:], *order[:1]], strict=True):
        one.ahead = other.address


# The kernels are imported at their first use: they need numba, which may be missing.


@cache
def _multiply() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import matmul

    return matmul.multiply()


@cache
def _multiply_gated() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import matmul

    return matmul.multiply_gated()


@cache
def _gate_rows() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import matmul

    return matmul.gate_rows()


@cache
def products_work() -> bool:
    """Whether the kernels work here: they need the registers of AVX-512, and have the same bits in one product and after two."""
    if not torch.cpu.get_capabilities().get("avx512_f"):
        return False
    gate, up, x, to = drawn(PANEL, 40), drawn(PANEL, 40) / 4, drawn(7, 40), drawn(7, PANEL)
    # As they are packed: [outputs / 64, terms, 64].
    packed = [weight.t().contiguous() for weight in (gate, up)]
    one, other = (CompiledProduct(weight.data_ptr(), PANEL, 32) for weight in packed)
    products = [x @ weight.t() for weight in (gate, up)]

    def compute() -> list[Tensor]:
        made = one(x), one(x, to), one.gated(x, other)
        if not torch.equal(made[2], gate_rows(one(x), other(x))):
            raise RuntimeError("its results depend on the order of operations")
        return list(made)

    gated = torch.nn.functional.silu(products[0]) * products[1]
    wanted = [products[0], products[0] + to, gated]
    return kernel_works(("products", torch.float32), compute, wanted)


@cache
def _kernel_is_faster() -> bool:
    folder = cache_folder() / "products"
    speedup = kept_speedup(folder, read_processor(), _measure, what="compiled float32 product")
    return speedup > 1.0


def _measure() -> float:
    """Times of products by oneDNN relative to those by the kernel, with one thread."""
    outputs, inputs, weights, rows = _MEASURED
    x = drawn(rows, inputs)
    packed = [
        torch.ops.mkldnn._reorder_linear_weight(drawn(outputs, inputs), None)
        for _ in range(weights)
    ]
    addresses = [torch.ops.mkldnn.data_ptr(weight) for weight in packed]
    compiled = [
        CompiledProduct(address, outputs, inputs, ahead)
        for address, ahead in zip(addresses, [*addresses[1:], addresses[0]], strict=True)
    ]

    def by_onednn() -> None:
        for weight in packed:
            torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    def by_kernel() -> None:
        for one in compiled:
            one(x)

    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = time_in_turns(by_onednn, by_kernel, _REPEATS)
    finally:
        torch.set_num_threads(usual)
    return seconds[0] / seconds[1]
