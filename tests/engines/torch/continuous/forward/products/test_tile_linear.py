"""Products of bfloat16 in the matrix unit against float64: the same bits for any number of rows and threads, and what follows a product."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.products import tile_linear
from batchgen.engines.torch.continuous.forward.products.linear import (
    PackedLinear,
    bfloat16_linear,
    gated,
    link_compiled,
)
from batchgen.engines.torch.continuous.forward.products.tile_linear import TileLinear, tiles_work

HALF = torch.bfloat16
SHAPES = [(32, 32), (960, 576), (576, 1536), (64, 5120)]
"""The last one has rows of which 128 fill more than a piece of the second-level cache."""
ROWS = [*range(1, 6), 15, 16, 17, 31, 32, 33, 40, 48, 63, 64, 65, 127, 128, 129, 144, 300]
"""Single tiles, pairs, tiles that overlap, and groups that are smaller than a tile."""

pytestmark = pytest.mark.skipif(not tiles_work(), reason="no numba or no AMX")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def weight(outputs: int, inputs: int, seed: int = 0) -> Tensor:
    return drawn(outputs, inputs, seed=seed).div_(inputs**0.5).to(HALF)


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("rows", [7, 50])
@pytest.mark.parametrize("biased", [False, True])
def test_a_product_is_that_of_float64(
    outputs: int, inputs: int, rows: int, *, biased: bool
) -> None:
    values, x, other = weight(outputs, inputs), drawn(rows, inputs).to(HALF), drawn(rows, outputs)
    bias = drawn(outputs, seed=3).to(HALF) if biased else None
    linear = TileLinear(values, bias)
    wanted = x.double() @ values.double().t()
    if bias is not None:
        wanted += bias.double()
    torch.testing.assert_close(linear.logits(x).double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(linear.add(x, other).double(), wanted + other, rtol=1e-4, atol=1e-4)
    for found, expected in [
        (linear(x), wanted),
        (linear.silu(x), functional.silu(wanted)),
        (linear.add(x, other.to(HALF)), wanted + other.to(HALF)),
        (linear.multiply(x, other.to(HALF)), wanted * other.to(HALF)),
        (gated(linear, linear, x), functional.silu(wanted) * wanted),
    ]:
        assert found.dtype == HALF
        torch.testing.assert_close(found.double(), expected, rtol=2**-6, atol=2**-7)


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_bits_depend_neither_on_other_rows_nor_on_threads(outputs: int, inputs: int) -> None:
    one, other = (
        TileLinear(weight(outputs, inputs), None),
        TileLinear(weight(outputs, inputs, 1), None),
    )
    link_compiled([one, other])
    x, to = drawn(max(ROWS), inputs).to(HALF), drawn(max(ROWS), outputs)
    torch.set_num_threads(1)

    def made(rows: slice) -> list[Tensor]:
        some = x[rows]
        return [one(some), one.logits(some), one.add(some, to[rows]), gated(one, other, some)]

    whole = made(slice(None))
    cuts = [cut for rows in ROWS for cut in (slice(rows), slice(max(ROWS) - rows, None))]
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        for cut in cuts:
            pairs = zip(made(cut), whole, strict=True)
            assert all(torch.equal(found, rows[cut]) for found, rows in pairs), (count, cut)


def test_what_is_added_to_stays() -> None:
    linear, x, to = TileLinear(weight(64, 64), None), drawn(20, 64).to(HALF), drawn(20, 64)
    before = to.clone()
    linear.add(x, to)
    assert torch.equal(to, before)


def test_a_row_that_is_no_number_affects_no_other() -> None:
    linear, x = TileLinear(weight(64, 64), None), drawn(33, 64).to(HALF)
    wanted = linear.logits(x)
    x[20, 5] = torch.nan
    found = linear.logits(x)
    assert found[20].isnan().all()
    rest = [n for n in range(33) if n != 20]
    assert torch.equal(found[rest], wanted[rest])


def test_a_weight_of_no_whole_tiles_is_left_to_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.engines.torch.continuous.forward.products.linear.tiles_are_faster", lambda: True)  # fmt: skip
    for outputs, inputs in ((97, 32), (64, 48)):
        assert isinstance(bfloat16_linear(weight(outputs, inputs), None), PackedLinear)
    assert isinstance(bfloat16_linear(weight(64, 64), None), TileLinear)


def test_a_forked_process_has_threads_of_its_own() -> None:
    linear, x = TileLinear(weight(192, 64), None), drawn(5, 64).to(HALF)
    torch.set_num_threads(2)
    wanted = linear(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(linear(x), wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(linear(x), wanted)


def test_which_one_is_faster_is_measured_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path))
    tile_linear.tiles_are_faster.cache_clear()
    first = tile_linear.tiles_are_faster()
    monkeypatch.setattr(tile_linear, "_measure", lambda: 0.5 if first else 2.0)
    tile_linear.tiles_are_faster.cache_clear()
    assert tile_linear.tiles_are_faster() is first
    tile_linear.tiles_are_faster.cache_clear()
