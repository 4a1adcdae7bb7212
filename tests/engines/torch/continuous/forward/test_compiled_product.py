"""The kernel for float32 products against oneDNN's: the same bits, for any number of rows, with what follows a product."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward import compiled_product
from batchgen.engines.torch.continuous.forward.compiled_product import products_work
from batchgen.engines.torch.continuous.forward.linear import (
    PackedLinear,
    compile_products,
    gated,
    packing_works,
)

SHAPES = [(64, 64), (960, 576), (576, 1536), (1024, 3072)]
ROWS = [1, 2, 4, 5, 6, 7, 24, 131]

pytestmark = pytest.mark.skipif(
    not packing_works() or not products_work(), reason="no packed products, numba or AVX-512"
)


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, with which the kernel computes here, as fast as it may be."""
    usual = torch.get_num_threads()
    monkeypatch.setattr(compiled_product, "_kernel_is_faster", lambda: True)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


def made(outputs: int, inputs: int, seed: int = 0) -> tuple[PackedLinear, PackedLinear]:
    """The same product: by oneDNN, and by the kernel."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
    plain, compiled = PackedLinear(weight, None), PackedLinear(weight, None)
    assert compiled.compile() is not None
    return plain, compiled


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_the_bits_are_those_of_onednn(outputs: int, inputs: int) -> None:
    plain, compiled = made(outputs, inputs)
    for rows in ROWS:
        x, to = torch.randn(rows, inputs), torch.randn(rows, outputs)
        assert torch.equal(compiled(x), plain(x))
        assert torch.equal(compiled.add(x, to.clone()), plain.add(x, to.clone()))


@pytest.mark.parametrize("rows", ROWS)
def test_a_gated_product_is_the_same_with_one_thread_and_with_several(rows: int) -> None:
    (plain, gate), (other, up) = made(1536, 576), made(1536, 576, seed=1)
    x = 3 * torch.randn(rows, 576)
    alone = gated(gate, up, x)
    torch.set_num_threads(2)
    assert torch.equal(gated(gate, up, x), alone)
    wanted = functional.silu(plain(x)) * other(x)
    torch.testing.assert_close(alone, wanted, rtol=1e-5, atol=1e-5)


def test_a_gate_of_any_size() -> None:
    """SiLU of numbers whose exponentials are too large or too small, and of no number."""
    numbers = [-200.0, -88.0, -50.0, -1e-30, 0.0, 1e-30, 1.0, 50.0, 88.0, 200.0, float("nan"), 3.0]
    gate = torch.tensor([numbers])
    found = compiled_product.gate_rows(gate, torch.ones(1, len(numbers)))
    torch.testing.assert_close(found, functional.silu(gate), rtol=1e-5, atol=1e-30, equal_nan=True)


def test_a_weight_that_the_kernel_cannot_compute_is_left_to_onednn() -> None:
    """Outputs that are no whole panels, a bias, another format, and bits that no block of terms gives."""
    weight = torch.randn(100, 32)
    assert PackedLinear(weight, None).compile() is None
    assert PackedLinear(torch.randn(64, 32), torch.randn(64)).compile() is None
    if packing_works(torch.bfloat16):
        assert PackedLinear(torch.randn(64, 32).bfloat16(), None).compile() is None
    packed = torch.ops.mkldnn._reorder_linear_weight(torch.randn(64, 32), None)

    def other(x: Tensor) -> Tensor:
        return torch.zeros(len(x), 64)

    assert compiled_product.compile_product(packed, (64, 32), other) is None


def test_each_product_prefetches_the_next() -> None:
    linears = [made(64, 64, seed)[1] for seed in range(3)]
    compile_products(linears)
    found = [linear.compiled for linear in linears]
    assert None not in found
    addresses = [one.address for one in found if one is not None]
    assert [one.ahead for one in found if one is not None] == [*addresses[1:], addresses[0]]


def test_which_one_is_faster_is_measured_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path))
    compiled_product._kernel_is_faster.cache_clear()
    first = compiled_product._kernel_is_faster()
    monkeypatch.setattr(compiled_product, "_measure", lambda: 0.5 if first else 2.0)
    compiled_product._kernel_is_faster.cache_clear()
    assert compiled_product._kernel_is_faster() is first
    compiled_product._kernel_is_faster.cache_clear()
