"""Products of float32 rows by compiled kernels (`kernels/matmul.py`), where they are faster than oneDNN's.

Both are measured once on each machine, as a worker uses them (one thread, 24 rows) and as one process does at the end of a
batch (all threads, six rows). With several threads, each computes some of the outputs.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.kernel_check import drawn, kernel_works
from batchgen.engines.torch.continuous.forward.products.kept_speedup import kept_speedup
from batchgen.engines.torch.continuous.forward.products.panel_linear import (
    MEASURED,
    Allocate,
    PanelLinear,
    drawn_weight,
    speedup_of_kernels,
)
from batchgen.engines.torch.weights.large_pages import LargePages
from batchgen.planning.host_processor import read_processor
from batchgen.storage.cache_folder import cache_folder

_ROWS = 24


class CompiledLinear(PanelLinear):
    """The product with a packed copy of a float32 weight. See `Linear`."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, allocate: Allocate = torch.empty
    ) -> None:
        """Copy a weight [out, in] on a CPU into memory by `allocate`; it `suits`."""
        panel = _panel()
        self.outputs, inputs = weight.shape
        self.ahead = 0
        panels = weight.view(self.outputs // panel, panel, inputs).transpose(1, 2)
        self._packed = allocate(tuple(panels.shape), dtype=torch.float32).copy_(panels)
        self._bias = bias

    @staticmethod
    def suits(weight: Tensor) -> bool:
        return len(weight) % _panel() == 0

    @property
    def address(self) -> int:
        return self._packed.data_ptr()

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x, None)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        if to.dtype != x.dtype:
            return to.add_(self(x))
        return self._product(x, to)

    def logits(self, x: Tensor) -> Tensor:
        return self(x)

    def gated(self, x: Tensor, up: "CompiledLinear") -> Tensor:
        if self._bias is not None or up._bias is not None:
            return self.silu(x).mul_(up(x))
        return self._compute(_multiply_gated(), x, up.address, up.ahead, gated=True)

    def _product(self, x: Tensor, to: Tensor | None) -> Tensor:
        added = None if to is None else to.contiguous()
        address = 0 if added is None else added.data_ptr()
        out = self._compute(_multiply(), x, address, self.ahead, gated=False)
        return out if self._bias is None else out.add_(self._bias)

    def _compute(
        self, kernel: Callable[..., None], x: Tensor, other: int, ahead: int, *, gated: bool
    ) -> Tensor:
        rows, out = x.contiguous(), torch.empty(len(x), self.outputs)
        panels, terms, _ = self._packed.shape
        product = (
            rows.data_ptr(), len(rows), terms, self.address, ahead, other, out.data_ptr(), self.outputs,
        )  # fmt: skip
        threads = torch.get_num_threads()
        if threads == 1:
            kernel(*product, 0, panels)
        else:
            _compute_panels()(kernel, product, panels, threads, gated=gated)
        return out


# The kernels are imported at their first use: they need numba, which may be missing.


@cache
def _panel() -> int:
    from batchgen.engines.torch.continuous.forward.kernels import matmul

    return matmul.PANEL


@cache
def _compute_panels() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.products import product_threads

    return product_threads.compute_panels


@cache
def _multiply() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import matmul

    return matmul.multiply()


@cache
def _multiply_gated() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import matmul

    return matmul.multiply_gated()


@cache
def products_work() -> bool:
    """Whether the kernels work here: they need the registers of AVX2."""
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("avx2") and capabilities.get("fma3")):
        return False
    gate, up, x, to = drawn(128, 40), drawn(128, 40) / 4, drawn(7, 40), drawn(7, 128)
    products = [x @ weight.t() for weight in (gate, up)]

    def compute() -> list[Tensor]:
        one, other = CompiledLinear(gate, None), CompiledLinear(up, None)
        return [one(x), one.add(x, to), one.gated(x, other)]

    gated = torch.nn.functional.silu(products[0]) * products[1]
    return kernel_works(
        ("products", torch.float32), compute, [products[0], products[0] + to, gated]
    )


@cache
def compiled_is_faster() -> bool:
    """Whether products by the kernels work and take less time than oneDNN's."""
    if not products_work():
        return False
    folder = cache_folder() / "products"
    what = "compiled float32 products in large pages"
    return kept_speedup(folder, read_processor(), _measure, what=what) > 1.0


def _measure() -> float:
    weight, memory = drawn_weight(), LargePages()
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, None) for _ in range(MEASURED[2])]
    compiled = [CompiledLinear(weight, None, memory.empty) for _ in range(MEASURED[2])]

    def by_onednn(one: Tensor) -> Callable[[Tensor], object]:
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, one, None, "none", [], "")

    x = drawn(_ROWS, MEASURED[1])
    return speedup_of_kernels([by_onednn(one) for one in packed], compiled, x)
