"""Products with packed weights: correct, and independent of other rows."""

import pytest
import torch

from batchgen.engines.torch.continuous.forward.linear import (
    Linear,
    PackedLinear,
    PlainLinear,
    packing_works,
)

pytestmark = pytest.mark.skipif(not packing_works(), reason="no packed products on this machine")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("make", [PackedLinear, PlainLinear])
@pytest.mark.parametrize("rows", [1, 2, 3, 16, 17, 300])
@pytest.mark.parametrize("bias", [None, drawn(96)], ids=["no bias", "bias"])
def test_products_are_those_of_float64(
    make: type[PackedLinear] | type[PlainLinear], rows: int, bias: torch.Tensor | None
) -> None:
    weight, x, other = drawn(96, 64), drawn(rows, 64), drawn(rows, 96)
    linear: Linear = make(weight, bias)
    wanted = x.double() @ weight.double().t()
    if bias is not None:
        wanted += bias.double()
    assert linear.outputs == 96
    torch.testing.assert_close(linear(x).double(), wanted, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        linear.silu(x).double(), torch.nn.functional.silu(wanted), rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        linear.add(x, other.clone()).double(), wanted + other, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(
        linear.multiply(x, other.clone()).double(), wanted * other, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "width", [64, 576, 1536], ids=["narrow", "wide", "as wide as the demo model's"]
)
def test_a_packed_row_is_bit_identical_in_any_batch(width: int) -> None:
    linear, x, other = PackedLinear(drawn(192, width), None), drawn(300, width), drawn(300, 192)
    together, gated, added = linear(x), linear.silu(x), linear.add(x, other.clone())
    for first, last in ((0, 1), (63, 64), (5, 7), (20, 52), (0, 63), (40, 297)):
        some, to = x[first:last].clone(), other[first:last].clone()
        assert torch.equal(linear(some), together[first:last])
        assert torch.equal(linear.silu(some), gated[first:last])
        assert torch.equal(linear.add(some, to), added[first:last])
