"""The measured speed-up of bfloat16 products, and its place in the cache folder."""

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.products.kept_speedup import kept_speedup
from batchgen.engines.torch.continuous.forward.products.linear import PlainLinear
from batchgen.engines.torch.precision.product_speed import (
    measure_bfloat16_speedup,
    packed_bfloat16_works,
)
from batchgen.engines.torch.precision.torch_machine import TorchMachine
from batchgen.planning.host_processor import HostProcessor

AMX = HostProcessor("Xeon", frozenset({"amx_bf16"}))


class Waiting(PlainLinear):
    """Computes nothing, and takes four times as long in float32."""

    def __call__(self, x: Tensor) -> Tensor:
        time.sleep(0.004 if x.dtype == torch.float32 else 0.001)
        return x


def test_the_speedup_is_that_of_bfloat16() -> None:
    assert 2.0 < measure_bfloat16_speedup(Waiting) < 6.0


def test_a_measurement_is_kept_for_each_processor(tmp_path: Path) -> None:
    results = iter([3.0, 2.0, 1.0])
    folder = tmp_path / "products"

    def measure() -> float:
        return next(results)

    assert kept_speedup(folder, AMX, measure) == 3.0
    assert kept_speedup(folder, AMX, measure) == 3.0
    other = HostProcessor("EPYC", frozenset({"avx512_bf16"}))
    assert kept_speedup(folder, other, measure) == 2.0
    for file in folder.glob("*.json"):
        file.write_text("{}")
    assert kept_speedup(folder, AMX, measure) == 1.0


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert kept_speedup(blocked / "products", AMX, lambda: 2.5) == 2.5


def test_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where packed bfloat16 works, it is measured for real."""
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path))
    machine = TorchMachine()
    speedup = machine.bfloat16_speedup()
    assert (speedup is not None and speedup > 0) is packed_bfloat16_works()
    assert [machine.has_gpu(device) for device in ("cpu", "cuda:1")] == [False, True]
    assert machine.has_gpu("auto") is torch.cuda.is_available()
