"""Products of bfloat16 rows in the matrix unit (`kernels/tiles.py`), where they are faster than oneDNN's.

A row's bits do not depend on the number of rows, as those of oneDNN do (`continuous/row_counts.py`).
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.kernel_check import drawn, kernel_works
from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_tiles
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

_PANEL, _BLOCK = 32, 32
"""Outputs and terms that are packed together, as in `kernels/tiles.py`."""
_ROWS = 48


class TileLinear(PanelLinear):
    """The product with a packed copy of a bfloat16 weight. See `Linear`."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, allocate: Allocate = torch.empty
    ) -> None:
        """Copy a weight [out, in] on a CPU into memory by `allocate`; it `suits`."""
        self.outputs, inputs = weight.shape
        self.ahead = 0
        blocks = weight.view(self.outputs // _PANEL, 2, 16, inputs // _BLOCK, 16, 2)
        paired = blocks.permute(0, 3, 1, 4, 2, 5)
        self._packed = allocate(tuple(paired.shape), dtype=torch.bfloat16).copy_(paired)
        self._bias = None if bias is None else bias.float().contiguous()

    @staticmethod
    def suits(weight: Tensor) -> bool:
        outputs, inputs = weight.shape
        return outputs % _PANEL == 0 and inputs % _BLOCK == 0

    @property
    def address(self) -> int:
        return self._packed.data_ptr()

    @property
    def bias_address(self) -> int:
        """Of the bias, float32 [out]; 0 if there is none."""
        return 0 if self._bias is None else self._bias.data_ptr()

    def __call__(self, x: Tensor) -> Tensor:
        out = torch.empty(len(x), self.outputs, dtype=torch.bfloat16)
        return self._compute(x, 0, out, _tiles().ROUNDED)

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        if to.dtype != torch.float32:
            return to.add_(self(x))
        added, out = to.contiguous(), torch.empty(len(x), self.outputs)
        return self._compute(x, added.data_ptr(), out, _tiles().ADDED)

    def logits(self, x: Tensor) -> Tensor:
        return self._compute(x, 0, torch.empty(len(x), self.outputs), _tiles().WIDE)

    def gated(self, x: Tensor, up: "TileLinear") -> Tensor:
        if self._bias is not None or up._bias is not None:
            return self.silu(x).mul_(up(x))
        out = torch.empty(len(x), self.outputs, dtype=torch.bfloat16)
        return self._compute(x, up.address, out, _tiles().GATED)

    def _compute(self, x: Tensor, other: int, out: Tensor, kind: int) -> Tensor:
        rows = x.contiguous()
        panels, blocks = self._packed.shape[:2]
        product = (
            rows.data_ptr(), len(rows), blocks * _BLOCK, self.address, self.ahead, other, self.bias_address, out.data_ptr(),
            self.outputs, kind,
        )  # fmt: skip
        threads = torch.get_num_threads()
        if threads == 1:
            _multiply()(*product, 0, panels)
        else:
            _compute_panels()(_multiply(), product, panels, threads)
        return out


# The kernels are imported at their first use: they need numba, which may be missing.


@cache
def _tiles() -> ModuleType:
    from batchgen.engines.torch.continuous.forward.kernels import tiles

    return tiles


@cache
def _compute_panels() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.products import product_threads

    return product_threads.compute_tile_panels


@cache
def _multiply() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import tiles

    return tiles.multiply_tiles()


@cache
def tiles_work() -> bool:
    """Whether the kernel works here: it needs AMX, which the system must permit to this process."""
    # Private in torch: requests AMX for this process, which Linux permits on demand.
    request = getattr(torch.cpu, "_init_amx", None)
    if not has_bfloat16_tiles() or request is None or not request():
        return False
    gate, up, x, to = drawn(64, 96), drawn(64, 96) / 4, drawn(37, 96), drawn(37, 64)
    narrow = [tensor.bfloat16() for tensor in (gate, up, x)]
    products = [narrow[2].float() @ weight.float().t() for weight in narrow[:2]]

    def compute() -> list[Tensor]:
        one, other = TileLinear(narrow[0], None), TileLinear(narrow[1], None)
        rows = narrow[2]
        return [one(rows), one.logits(rows), one.add(rows, to), one.gated(rows, other)]

    gated = torch.nn.functional.silu(products[0]) * products[1]
    wanted = [products[0].bfloat16(), products[0], products[0] + to, gated.bfloat16()]
    return kernel_works(("products", torch.bfloat16), compute, wanted)


@cache
def tiles_are_faster() -> bool:
    """Whether products by the kernel work and take less time than oneDNN's."""
    if not tiles_work():
        return False
    folder = cache_folder() / "products"
    return kept_speedup(folder, read_processor(), _measure, what="compiled products in tiles") > 1.0


def _measure() -> float:
    weight, memory = drawn_weight().bfloat16(), LargePages()
    packed = [torch.ops.mkldnn._reorder_linear_weight(weight, None) for _ in range(MEASURED[2])]
    compiled = [TileLinear(weight, None, memory.empty) for _ in range(MEASURED[2])]

    def by_onednn(one: Tensor) -> Callable[[Tensor], object]:
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, one, None, "none", [], "")

    x = drawn(_ROWS, MEASURED[1]).bfloat16()
    return speedup_of_kernels([by_onednn(one) for one in packed], compiled, x)
