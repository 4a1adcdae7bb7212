"""Norms and rotary embeddings compiled by numba: equal to float64 within rounding, and independent of other rows."""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from batchgen.engines.torch.continuous.forward.row_kernels import (
    CompiledNorm,
    CompiledTurn,
    TorchTurn,
    norm_works,
    turn_works,
)

pytestmark = pytest.mark.skipif(find_spec("numba") is None, reason="no numba for this Python")

HALF = torch.bfloat16


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("width", [32, 576, 577])
def test_norms_are_those_of_float64(rows: int, width: int) -> None:
    x, weight = drawn(rows, width) * 3, drawn(width)
    found = CompiledNorm(weight, 1e-5)(x)
    oracle = rms_norm(x.double(), (width,), weight.double(), 1e-5)
    torch.testing.assert_close(found.double(), oracle, rtol=1e-5, atol=1e-6)
    assert torch.equal(CompiledNorm(weight, 1e-5)(x[-1:]), found[-1:])
    assert norm_works(HALF)
    assert torch.equal(CompiledNorm(weight, 1e-5, HALF)(x), found.bfloat16()), "rounded once"


@pytest.mark.parametrize("dtype", [torch.float32, HALF])
def test_a_norm_of_nonfinite_values_is_not_finite(dtype: torch.dtype) -> None:
    x = drawn(3, 32)
    x[1, 4] = torch.nan
    found = CompiledNorm(drawn(32), 1e-5, dtype)(x)
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]


ROUNDED = [1.0, -0.0, 1e-40, 3.4e38, torch.inf, -torch.inf, torch.nan]
"""Numbers on which rounding could go wrong, and two in the middle between numbers of bfloat16."""


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    x = torch.tensor([*ROUNDED, 1 + 2**-8, 1 + 3 * 2**-8])
    # The largest bits of a NaN, to which rounding must not carry.
    x = torch.cat([x, torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)])
    heads = torch.zeros(1, 1, 2 * len(x), dtype=HALF)
    heads[..., ::2] = 1
    # Turns (1, 0) into (cos, sin).
    CompiledTurn(torch.ones(1, 2 * len(x)), 0.0, normed=False)(
        heads, torch.complex(x[None], x[None])
    )
    wanted = x.bfloat16()
    for found in (heads[0, 0, ::2], heads[0, 0, 1::2]):
        assert torch.equal(found.isnan(), wanted.isnan() | ~x.isfinite())
        finite = x.isfinite()
        assert torch.equal(found[finite], wanted[finite])


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("width", [8, 64])
def test_rotary_embeddings_are_those_of_torch(normed: bool, tokens: int, width: int) -> None:
    assert turn_works(normed=normed)
    heads, angles = drawn(tokens, 5, width).bfloat16(), drawn(tokens, width // 2)
    weights = drawn(3, width) if normed else torch.ones(3, width)
    found, wanted = heads.clone(), heads.clone()
    waves = torch.complex(angles.cos(), angles.sin())
    CompiledTurn(weights, 1e-6, normed)(found, waves)
    TorchTurn(weights, 1e-6, normed)(wanted, waves)
    torch.testing.assert_close(found, wanted, rtol=torch.finfo(HALF).eps, atol=1e-6)
    assert torch.equal(found[:, 3:], heads[:, 3:]), "values are not turned"
    exact = heads[:, :3].double()
    if normed:
        exact = rms_norm(exact, (width,), None, 1e-6) * weights.double()
    even, odd = exact[..., ::2], exact[..., 1::2]
    cos, sin = angles.double().cos()[:, None], angles.double().sin()[:, None]
    exact = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(2)
    torch.testing.assert_close(
        found[:, :3].double(), exact, rtol=torch.finfo(HALF).eps / 2, atol=1e-5
    )
    last = heads[-1:].clone()
    CompiledTurn(weights, 1e-6, normed)(last, waves[-1:])
    assert torch.equal(last, found[-1:])
