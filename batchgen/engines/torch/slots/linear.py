"""Products with weights that do not change: in a packed layout where this machine has one and it is right.

    few rows     oneDNN with prepacked weights: what follows (add, multiply) happens while the result is in cache
    many rows    the plain product, whose own packing pays for itself

The packed product computes each row the same beside any others. torch reaches it by private operators, so they are tried
out once (`packing_works`), and left alone where they are missing or wrong. Knows nothing of models.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

MANY_ROWS = 10**9
"""From so many rows on the plain product is as fast; measured on two AVX2 cores."""


class Linear:
    """x times a weight, plus a bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None, *, packed: bool) -> None:
        """Take a weight [out, in]; `packed` also keeps it in oneDNN's layout, which is a second copy."""
        self.outputs = weight.shape[0]
        self._weight = weight
        self._transposed = weight.t()
        self._bias = bias
        self._packed = (
            torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None) if packed else None
        )

    def __call__(self, x: Tensor) -> Tensor:
        """X [rows, in] times the weight: [rows, out]."""
        if self._packed is None or len(x) >= MANY_ROWS:
            return functional.linear(x, self._weight, self._bias)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self._bias, "none", [], ""
        )
        return result

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """`to` [rows, out] plus the product; `to` may be overwritten."""
        if self._packed is None or len(x) >= MANY_ROWS:
            if self._bias is not None:
                to += self._bias
            return to.addmm_(x, self._transposed)
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, to, self._packed, self._bias, "add"
        )
        return result

    def multiply(self, x: Tensor, by: Tensor) -> Tensor:
        """`by` [rows, out] times the product, element by element; `by` may be overwritten."""
        if self._packed is None or len(x) >= MANY_ROWS:
            return by.mul_(functional.linear(x, self._weight, self._bias))
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, by, self._packed, self._bias, "mul"
        )
        return result


@cache
def packing_works() -> bool:
    """Whether packed products can be had here, and are right: tried on a small weight."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 32, generator=generator)
    bias = torch.randn(48, generator=generator)
    x, other = torch.randn(5, 32, generator=generator), torch.randn(5, 48, generator=generator)
    plain = functional.linear(x, weight, bias)
    try:
        packed = Linear(weight, bias, packed=True)
        results = packed(x), packed.add(x, other.clone()), packed.multiply(x, other.clone())
    except (AttributeError, RuntimeError):
        return False
    wanted = plain, plain + other, plain * other
    return all(
        torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(results, wanted, strict=True)
    )
