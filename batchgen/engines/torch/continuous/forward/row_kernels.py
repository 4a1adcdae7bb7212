"""Norms and rotary embeddings by kernels compiled by numba, where those work.

    norms on a CPU                               one kernel instead of eight operations
    rotary embedding on a CPU in bfloat16        one kernel instead of six operations, after the norms of heads

Kernels compute in float32 and round once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.kernel_check import (
    NUMBERS,
    array_of,
    drawn,
    kernel_works,
    kernels_suit,
)


@dataclass(frozen=True, slots=True)
class CompiledNorm:
    """RMSNorm: rows divided by their root mean square, multiplied by a weight."""

    weight: Tensor
    eps: float
    dtype: torch.dtype = torch.float32

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize contiguous float32 [rows, width], into `dtype`."""
        out = torch.empty_like(x, dtype=self.dtype)
        _norm(NUMBERS[self.dtype])(x.numpy(), self.weight.numpy(), self.eps, array_of(out))
        return out


@dataclass(frozen=True, slots=True)
class CompiledTurn:
    """Rotary embedding of the first heads of bfloat16 [tokens, heads, width], in place; pairs are adjacent.

    Attributes:
        weights: float32 [turned heads, width], of an RMSNorm of each head before it if `normed`; otherwise ones.
    """

    weights: Tensor
    eps: float
    normed: bool

    def __call__(self, heads: Tensor, waves: Tensor) -> None:
        """Turn by complex64 [tokens, width / 2]."""
        kernel, pairs = _turn(normed=self.normed), torch.view_as_real(waves)
        kernel(array_of(heads), self.weights.numpy(), self.eps, pairs.numpy())


@dataclass(frozen=True, slots=True)
class TorchTurn:
    """The same by operations of torch."""

    weights: Tensor
    eps: float
    normed: bool

    def __call__(self, heads: Tensor, waves: Tensor) -> None:
        turned = heads[:, : len(self.weights)]
        wide = turned.float()
        if self.normed:
            wide = functional.rms_norm(wide, wide.shape[-1:], None, self.eps) * self.weights
        pairs = torch.view_as_complex(wide.view(*wide.shape[:2], -1, 2))
        turned.copy_(torch.view_as_real(pairs * waves[:, None]).flatten(2))


@dataclass(frozen=True, slots=True)
class ComplexTurn:
    """The same in float32, of pairs as complex numbers: norms of heads, if there are any, then one product."""

    queries: int
    turned: int
    q_norm: Callable[[Tensor], Tensor] | None
    k_norm: Callable[[Tensor], Tensor] | None

    def __call__(self, heads: Tensor, waves: Tensor) -> None:
        if self.q_norm is not None and self.k_norm is not None:
            heads[:, : self.queries] = self.q_norm(heads[:, : self.queries])
            keys = slice(self.queries, self.turned)
            heads[:, keys] = self.k_norm(heads[:, keys])
        pairs = torch.view_as_complex(heads.view(*heads.shape[:2], -1, 2))
        pairs[:, : self.turned] *= waves[:, None]


def kernel_supports_norm(weight: Tensor) -> bool:
    """Whether `CompiledNorm` works for this weight."""
    return kernels_suit(weight) and norm_works(weight.dtype)


# The kernels are imported at their first use: they need numba, which may be missing.


@cache
def _norm(number: str) -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import norm

    return norm.rms_norm(number)


@cache
def _turn(*, normed: bool) -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import rotary

    return rotary.turn(normed=normed)


@cache
def norm_works(dtype: torch.dtype = torch.float32) -> bool:
    """Whether the kernel for norms can be compiled here, and its results are right."""
    x, weight = drawn(3, 40), drawn(40)
    wanted = functional.rms_norm(x, (40,), weight, 1e-5).to(dtype)
    return kernel_works(("norm", dtype), lambda: [CompiledNorm(weight, 1e-5, dtype)(x)], [wanted])


@cache
def turn_works(*, normed: bool) -> bool:
    """Whether the kernel for rotary embeddings works here."""
    heads, waves = drawn(3, 4, 8).bfloat16(), torch.complex(drawn(3, 4), drawn(4, 3).t())
    weights = drawn(3, 8) if normed else torch.ones(3, 8)
    wanted = heads.clone()
    TorchTurn(weights, 1e-5, normed)(wanted, waves)

    def compute() -> list[Tensor]:
        CompiledTurn(weights, 1e-5, normed)(heads, waves)
        return [heads]

    return kernel_works(("rotary", torch.bfloat16), compute, [wanted])
