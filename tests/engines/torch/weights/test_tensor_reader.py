"""Tensors are read as transformers reads them, converted while they are read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import modeling_utils

from batchgen.engines.torch.weights import tensor_reader
from batchgen.engines.torch.weights.tensor_reader import tensors_read_once

library: Any = modeling_utils
STORED: dict[str, Tensor] = {
    "float32": torch.randn(7, 5, generator=torch.Generator().manual_seed(1)),
    "bfloat16": torch.randn(300, 9, generator=torch.Generator().manual_seed(2)).bfloat16(),
    "float16": torch.randn(33, generator=torch.Generator().manual_seed(3)).half(),
    "scalar": torch.tensor(0.5, dtype=torch.bfloat16),
    "empty": torch.empty(0, 4),
    "integers": torch.arange(9),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(STORED, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def read(file: Path, dtype: torch.dtype | str, *, narrowing: bool) -> dict[str, Tensor]:
    with (
        tensors_read_once(dtype, narrowing=narrowing),
        library.safe_open(file, framework="pt", device="cpu") as opened,
    ):
        return {name: opened.get_slice(name)[...] for name in opened.keys()}  # noqa: SIM118


@pytest.mark.parametrize("narrowing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, "auto"])
def test_numbers_are_those_of_the_file(
    file: Path, dtype: torch.dtype | str, narrowing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_reader, "BLOCK_BYTES", 64)

    found = read(file, dtype, narrowing=narrowing)

    assert found.keys() == STORED.keys()
    for name, stored in STORED.items():
        target = stored.dtype
        converts = dtype == torch.float32 or narrowing
        if isinstance(dtype, torch.dtype) and converts and stored.is_floating_point():
            target = dtype
        assert found[name].dtype == target, name
        assert torch.equal(found[name], stored.to(target)), name


def test_a_part_of_a_tensor_and_what_describes_it(file: Path) -> None:
    with (
        tensors_read_once(torch.float32, narrowing=False),
        library.safe_open(file, framework="pt", device="cpu") as opened,
    ):
        part = opened.get_slice("bfloat16")
        assert part.get_shape() == [300, 9]
        assert part.get_dtype() == "BF16"
        assert torch.equal(part[2:4], STORED["bfloat16"][2:4])
        assert opened.metadata() is None


def test_a_file_that_ends_early(file: Path) -> None:
    with (
        tensors_read_once(torch.float32, narrowing=False),
        library.safe_open(file, framework="pt", device="cpu") as opened,
    ):
        part = opened.get_slice("bfloat16")
        file.write_bytes(file.read_bytes()[:-5000])
        with pytest.raises(EOFError, match="truncated"):
            part[...]


def test_transformers_opens_files_itself_afterwards(file: Path) -> None:
    with pytest.raises(SafetensorError), tensors_read_once("auto", narrowing=False):
        library.safe_open(file, framework="pt").get_slice("mystery")
    assert library.safe_open is safe_open
