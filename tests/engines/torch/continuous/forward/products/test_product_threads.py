"""Threads for products compute what one thread computes, whether they still wait, sleep, or are new after a fork."""

import os
import time
from collections.abc import Iterator

import pytest
import torch

from batchgen.engines.torch.continuous.forward.products.compiled_linear import (
    CompiledLinear,
    products_work,
)

pytestmark = pytest.mark.skipif(not products_work(), reason="no numba or no AVX2")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


@pytest.mark.parametrize("count", [2, 3])
def test_products_are_the_same_after_pauses_of_any_length(count: int) -> None:
    """Pauses near the time after which a thread sleeps: it may fall asleep while a product is posted."""
    linear = CompiledLinear(torch.randn(192, 64), None)
    x = torch.randn(5, 64)
    torch.set_num_threads(1)
    wanted = linear(x)
    torch.set_num_threads(count)
    for number in range(600):
        ends = time.perf_counter() + (number % 30) * 1e-4
        while time.perf_counter() < ends:
            pass
        if number % 200 == 0:
            time.sleep(0.01)
        assert torch.equal(linear(x), wanted)


def test_a_forked_process_has_threads_of_its_own() -> None:
    linear, x = CompiledLinear(torch.randn(192, 64), None), torch.randn(5, 64)
    torch.set_num_threads(2)
    wanted = linear(x)
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(linear(x), wanted) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(linear(x), wanted)
