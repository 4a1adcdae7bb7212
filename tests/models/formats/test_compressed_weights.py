"""The compression of a checkpoint is read from its JSON files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ModelError
from batchgen.models.formats.compressed_weights import Compression, find_compression
from tests.models.conftest import CONFIG

WriteModel = Callable[..., Path]
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "stated": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq", ""),
    "mxfp4": ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4", ""),
    "in the text section": (
        {"text_config": {"quantization_config": {"quant_method": "fp8"}}},
        "fp8",
        "",
    ),
    "bitsandbytes without a name": (
        {"quantization_config": {"load_in_4bit": True}},
        "bitsandbytes",
        "",
    ),
    "compressed-tensors without a name": (
        {"compression_config": {"config_groups": {}}},
        "compressed-tensors",
        "",
    ),
    "no name at all": ({"quantization_config": {"bits": 4}}, "an unnamed method", ""),
    "a file of its own": ({}, "gptq", "quantize_config.json"),
    "a file of modelopt": ({}, "modelopt", "hf_quant_config.json"),
}


@pytest.mark.parametrize(("keys", "method", "file"), CASES.values(), ids=CASES)
def test_the_method_and_its_file(
    tmp_path: Path, write_model: WriteModel, keys: dict[str, Any], method: str, file: str
) -> None:
    more = {file: {"bits": 4}} if file else {}
    folder = write_model(tmp_path / "model", {"config.json": {**CONFIG, **keys}, **more})

    assert find_compression(folder) == Compression(method, folder / (file or "config.json"))


@pytest.mark.parametrize("keys", [{}, {"quantization_config": None}, {"quantization_config": {}}])
def test_plain_numbers(tmp_path: Path, write_model: WriteModel, keys: dict[str, Any]) -> None:
    folder = write_model(tmp_path / "model", {"config.json": {**CONFIG, **keys}})
    assert find_compression(folder) is None


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    assert find_compression(tmp_path) is None


def test_a_section_that_is_no_object(tmp_path: Path, write_model: WriteModel) -> None:
    folder = write_model(
        tmp_path / "model", {"config.json": {**CONFIG, "quantization_config": "int4"}}
    )
    with pytest.raises(ModelError, match="quantization_config is a str, expected a JSON object"):
        find_compression(folder)
