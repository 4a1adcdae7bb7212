"""The kernels for float32 products against torch: the same bits for any number of rows and threads, and what follows a product."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.products import compiled_linear
from batchgen.engines.torch.continuous.forward.products.compiled_linear import (
    CompiledLinear,
    products_work,
)
from batchgen.engines.torch.continuous.forward.products.linear import (
    PackedLinear,
    float32_linear,
    gated,
    link_compiled,
)

SHAPES = [(64, 64), (960, 576), (576, 1536), (128, 5000)]
"""The last one has more terms than are used at a time."""
ROWS = [*range(1, 14), 20, 24, 30, 40, 96, 131]
"""All tiles, and all ways to share the prefetching among them."""

pytestmark = pytest.mark.skipif(not products_work(), reason="no numba or no AVX2")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def weight(outputs: int, inputs: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(outputs, inputs, generator=generator)
    return numbers.div_(inputs**0.5)


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_a_product_is_that_of_torch(outputs: int, inputs: int) -> None:
    values, bias = weight(outputs, inputs), torch.randn(outputs)
    x, other = torch.randn(7, inputs), torch.randn(7, outputs)
    linear = CompiledLinear(values, bias)
    wanted = (x.double() @ values.double().t() + bias.double()).float()
    for found, expected in [
        (linear(x), wanted),
        (linear.logits(x), wanted),
        (linear.silu(x), functional.silu(wanted)),
        (linear.add(x, other.clone()), wanted + other),
        (linear.add(x, other.double()), (wanted + other).double()),
        (linear.multiply(x, other.clone()), wanted * other),
        (gated(linear, linear, x), functional.silu(wanted) * wanted),
    ]:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_bits_depend_neither_on_other_rows_nor_on_threads(outputs: int, inputs: int) -> None:
    one = CompiledLinear(weight(outputs, inputs), None)
    other = CompiledLinear(weight(outputs, inputs, seed=1), None)
    x, to = torch.randn(max(ROWS), inputs), torch.randn(max(ROWS), outputs)
    torch.set_num_threads(1)
    whole = one(x), one.add(x, to), gated(one, other, x)
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for rows in ROWS:
            made = one(x[:rows]), one.add(x[:rows], to[:rows]), gated(one, other, x[:rows])
            assert all(torch.equal(a, b[:rows]) for a, b in zip(made, whole, strict=True))


def test_a_gate_of_any_size() -> None:
    """SiLU of numbers whose exponentials are too large or too small, and of no number."""
    numbers = [-200.0, -88.0, -50.0, -1e-30, 0.0, 1e-30, 1.0, 50.0, 88.0, 200.0, 3.0]
    # The gate is a number of each row times 1, `up` is 1 times 1.
    x = torch.tensor([[number, 1.0] for number in [*numbers, float("nan")]])
    gate = CompiledLinear(torch.tensor([[1.0, 0.0]]).repeat(64, 1), None)
    up = CompiledLinear(torch.tensor([[0.0, 1.0]]).repeat(64, 1), None)
    found = gate.gated(x, up)
    wanted = functional.silu(x[:, :1]).repeat(1, 64)
    torch.testing.assert_close(found[:-1], wanted[:-1], rtol=1e-5, atol=1e-30)
    assert found[-1].isnan().all()


def test_a_weight_of_no_whole_panels_is_left_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.engines.torch.continuous.forward.products.linear.compiled_is_faster", lambda: True)  # fmt: skip
    assert isinstance(float32_linear(torch.randn(100, 32), None), PackedLinear)
    assert isinstance(float32_linear(torch.randn(128, 32), None), CompiledLinear)


def test_each_product_prefetches_the_next() -> None:
    linears = [CompiledLinear(weight(64, 64, seed), None) for seed in range(3)]
    link_compiled(linears)
    addresses = [one.address for one in linears]
    assert [one.ahead for one in linears] == [*addresses[1:], addresses[0]]


def test_which_one_is_faster_is_measured_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path))
    compiled_linear.compiled_is_faster.cache_clear()
    first = compiled_linear.compiled_is_faster()
    monkeypatch.setattr(compiled_linear, "_measure", lambda: 0.5 if first else 2.0)
    compiled_linear.compiled_is_faster.cache_clear()
    assert compiled_linear.compiled_is_faster() is first
    compiled_linear.compiled_is_faster.cache_clear()
