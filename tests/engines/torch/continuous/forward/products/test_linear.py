"""Products with packed weights: correct, and independent of other rows."""

import pytest
import torch

from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.engines.torch.continuous.forward.products.compiled_linear import CompiledLinear
from batchgen.engines.torch.continuous.forward.products.linear import (
    Linear,
    PackedLinear,
    Packing,
    PlainLinear,
    WidenedLinear,
    choose_packing,
    linear_for,
    packing_works,
)
from batchgen.engines.torch.continuous.forward.products.tile_linear import TileLinear

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


HALF = torch.bfloat16


@pytest.mark.parametrize(
    "make", [WidenedLinear, PlainLinear, *([PackedLinear] if packing_works(HALF) else [])]
)
@pytest.mark.parametrize("rows", [1, 17, 70])
@pytest.mark.parametrize("bias", [None, drawn(96).to(HALF)], ids=["no bias", "bias"])
def test_products_of_bfloat16_are_summed_in_float32_and_rounded(
    make: type[PackedLinear], rows: int, bias: torch.Tensor | None
) -> None:
    weight, x, other = drawn(96, 64).to(HALF), drawn(rows, 64).to(HALF), drawn(rows, 96).to(HALF)
    linear: Linear = make(weight, bias)
    wanted = x.double() @ weight.double().t()
    if bias is not None:
        wanted += bias.double()
    residual = drawn(rows, 96) * 100
    found = {
        "product": (linear(x), wanted),
        "silu": (linear.silu(x), torch.nn.functional.silu(wanted)),
        "multiplied": (linear.multiply(x, other.clone()), wanted * other),
    }
    for name, (made, exact) in found.items():
        assert made.dtype == HALF, name
        # A product may be rounded before the operation that follows it, and SiLU is at most 1.1 times as steep.
        torch.testing.assert_close(made.double(), exact, rtol=2**-7, atol=2**-8)
    added = linear.add(x, residual.clone())
    assert added.dtype == torch.float32
    torch.testing.assert_close(added.double(), wanted + residual, rtol=2**-9, atol=0.1)
    torch.testing.assert_close(linear.logits(x).double(), wanted, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("width", [64, 576])
def test_a_widened_row_is_bit_identical_in_any_batch(width: int) -> None:
    linear, x = WidenedLinear(drawn(192, width).to(HALF), None), drawn(300, width).to(HALF)
    other, residual = drawn(300, 192).to(HALF), drawn(300, 192)
    for first, last in ((0, 1), (5, 7), (20, 52), (40, 297)):
        some = slice(first, last)
        for made, whole in (
            (linear(x[some]), linear(x)),
            (linear.silu(x[some]), linear.silu(x)),
            (linear.multiply(x[some], other[some].clone()), linear.multiply(x, other.clone())),
            (linear.add(x[some], residual[some].clone()), linear.add(x, residual.clone())),
            (linear.logits(x[some]), linear.logits(x)),
        ):
            assert torch.equal(made, whole[some])


def test_the_packed_copy_of_bfloat16_is_float32_where_the_processor_has_no_products_of_it() -> None:
    cpu = torch.device("cpu")
    native = has_bfloat16_products() and packing_works(HALF)
    made = Packing(HALF, 100) if native else Packing(torch.float32, 200)
    assert choose_packing(100, cpu, HALF, 200) == made
    assert choose_packing(100, cpu, HALF, 99) is None
    assert choose_packing(100, cpu, torch.float32, 100) == Packing(torch.float32, 100)
    assert choose_packing(100, cpu, torch.float16, 10**6) is None
    assert choose_packing(100, torch.device("meta"), HALF, 10**6) is None
    assert linear_for(HALF, None) is PlainLinear
    narrow = linear_for(HALF, Packing(HALF, 1))
    if native:
        assert isinstance(narrow(drawn(64, 32).to(HALF), None), TileLinear | PackedLinear)
    wide = linear_for(HALF, Packing(torch.float32, 1))
    assert isinstance(wide(drawn(64, 32).to(HALF), None), WidenedLinear)
    single = linear_for(torch.float32, Packing(torch.float32, 1))
    assert isinstance(single(drawn(64, 32), None), CompiledLinear | PackedLinear)
