"""What is wrong with the files of an adapter is found before a model is loaded, all problems at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from batchgen.errors import AdapterError
from batchgen.lora.adapter_folder import read_adapter

CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"]}
Q = "base_model.model.layers.0.q"
Shapes = dict[str, tuple[int, ...]]
TENSORS: Shapes = {f"{Q}.lora_A.weight": (2, 6), f"{Q}.lora_B.weight": (4, 2)}
OTHER: Shapes = {f"{Q}.lora_A.weight": (3, 6), f"{Q}.lora_B.weight": (4, 3)}


def write(folder: Path, config: dict[str, Any] | None, tensors: Shapes | None) -> Path:
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    if tensors is not None:
        values = {name: np.zeros(shape, np.float32) for name, shape in tensors.items()}
        save_file(values, folder / "adapter_model.safetensors")
    return folder


def test_an_adapter_is_described(tmp_path: Path) -> None:
    config = {**CONFIG, "base_model_name_or_path": "owner/base", "use_rslora": True}
    adapter = read_adapter(write(tmp_path, config, TENSORS))
    assert adapter.describe() == "rsLoRA of 1 module, rank 2, 0.0M parameters"
    assert adapter.base_model == "owner/base"
    assert adapter.config.scale("layers.0.q") == 4 / 2**0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type: 'IA3' is not supported; expected 'LORA'"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type: 'PROMPT_TUNING' is not supported"),
        ({"peft_type": None}, "peft_type: None is not supported"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: 'pissa' is not supported"),
        ({"init_lora_weights": "olora"}, "training began from changed weights"),
        ({"trainable_token_indices": [1]}, r"trainable_token_indices: \[1\] is not supported"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"a_later_key": {"x": 1}}, "a_later_key: {'x': 1} is not supported"),
        ({"r": 0}, "r: Input should be greater than or equal to 1; found 0"),
        ({"r": "many"}, "r: Input should be a valid integer.*; found 'many'"),
        ({"lora_alpha": float("nan")}, "lora_alpha: Input should be a finite number"),
        ({"bias": "some"}, "bias: Input should be 'none', 'all' or 'lora_only'"),
        ({"target_modules": "(q"}, r"target_modules: '\(q' is not a pattern"),
        ({"rank_pattern": {"(q": 2}}, r"rank_pattern: '\(q' is not a pattern"),
        ({"rank_pattern": {"q": 8}}, "another rank than in adapter_config.json: layers.0.q, 2 not"),
        ({"modules_to_save": ["head"]}, "modules_to_save without a tensor: head"),
        ({"use_dora": True}, "use_dora is true, unlike the tensors: layers.0.q"),
        ({"lora_bias": True}, "lora_bias is true, unlike the tensors: layers.0.q"),
    ],
)
def test_a_config_that_is_not_supported_is_an_error(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match=message):
        read_adapter(write(tmp_path, CONFIG | changes, TENSORS))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "the file has no tensors"),
        ({f"{Q}.lora_A.weight": (2, 6)}, "without one of their two matrices: layers.0.q"),
        (TENSORS | {f"{Q}.lora_B.weight": (4, 3)}, r"cannot be multiplied: layers.0.q, \(2, 6\)"),
        (TENSORS | {f"{Q}.lora_A.weight": (2,)}, "cannot be multiplied"),
        (OTHER, "another rank than in adapter_config.json: layers.0.q, 3 not 2"),
        (TENSORS | {f"{Q}.lora_magnitude_vector": (4,)}, "use_dora is false, unlike"),
        (TENSORS | {f"{Q}.lora_C.weight": (4,)}, rf"not supported: {Q}.lora_C.weight"),
        ({"layers.0.q.lora_A.weight": (2, 6)}, "not supported: layers.0.q.lora_A.weight"),
    ],
)
def test_tensors_that_contradict_the_config_or_each_other_are_an_error(
    tensors: Shapes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(AdapterError, match=message):
        read_adapter(write(tmp_path, CONFIG, tensors))


def test_magnitudes_of_another_length_are_an_error(tmp_path: Path) -> None:
    tensors = TENSORS | {f"{Q}.lora_magnitude_vector": (5,)}
    with pytest.raises(AdapterError, match="vectors of another length than their matrices"):
        read_adapter(write(tmp_path, CONFIG | {"use_dora": True}, tensors))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no adapter_config.json and no .*; found nothing"):
        read_adapter(tmp_path)
    write(tmp_path, CONFIG, None)
    with pytest.raises(AdapterError, match=r"not an adapter: no adapter_model.safetensors"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(AdapterError, match=r"adapter_model.bin, a format that can run code"):
        read_adapter(tmp_path)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, CONFIG, TENSORS)
    (folder / "adapter_config.json").write_text("{")
    (folder / "adapter_model.safetensors").write_bytes(b"\x00" * 4)
    with pytest.raises(AdapterError) as caught:
        read_adapter(folder)
    messages = [problem.message for problem in caught.value.problems]
    assert len(messages) == 2
    assert "adapter_config.json:1:2: not JSON" in messages[0]
    assert "adapter_model.safetensors: truncated or not a safetensors file" in messages[1]


def test_integers_are_not_merged(tmp_path: Path) -> None:
    folder = write(tmp_path, CONFIG, None)
    names = {name: np.zeros(shape, np.int8) for name, shape in TENSORS.items()}
    save_file(names, folder / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"not floating-point numbers: .*lora_A.weight in I8"):
        read_adapter(folder)


def test_all_problems_are_named_at_once_and_few_of_many_names(tmp_path: Path) -> None:
    tensors: Shapes = {"stray": (1,)}
    for number in range(10):
        tensors[f"base_model.model.layers.{number}.q.lora_A.weight"] = (2, 6)
    with pytest.raises(AdapterError) as caught:
        read_adapter(write(tmp_path, CONFIG, tensors))
    first, second = (problem.message for problem in caught.value.problems)
    assert "stray" in first
    assert "layers.0.q; layers.1.q; layers.2.q and 7 more" in second
