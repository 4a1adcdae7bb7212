"""Configs that describe a larger model than the weights are rejected in seconds, and without its memory."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from batchgen.engines.torch.estimate import estimate_torch_engine
from batchgen.engines.torch.memory import build_without_weights
from batchgen.engines.torch.model import load_model
from batchgen.engines.torch.weight_bounds import StoredWeights, bounded_by
from batchgen.errors import ModelError
from batchgen.job.spec import Batching, ModelSpec
from tests.engines.torch.tiny_models import FAMILIES, tiny_model

SPEC = ModelSpec(path="model")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"intermediate_size": 10**9}),
        ("llama", {"num_hidden_layers": 100_000}),
        ("llama", {"vocab_size": 10**12}),
        ("llama", {"hidden_size": 10**6, "num_attention_heads": 4}),
        ("gpt2", {"n_positions": 10**10}),
        ("gpt2", {"n_layer": 50_000}),
        ("t5", {"d_ff": 10**9}),
        ("mamba", {"state_size": 10**9}),
    ],
)
def test_a_model_that_is_larger_than_its_weights_is_rejected_before_it_takes_memory(
    tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    tiny_model(family, torch.float32).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    before = peak_bytes()
    message = r"config.json describes a model with at least [\d,]+ parameters in [\d,]+ tensors"
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path, SPEC)
    with pytest.raises(ModelError, match=message):
        estimate_torch_engine(tmp_path, SPEC, batching=Batching())
    assert peak_bytes() - before < 300e6


@pytest.mark.parametrize(
    ("family", "key", "change", "message"),
    [
        ("llama", "num_hidden_layers", -1, "tensor(s) that the model of config.json does not use: model.layers."),
        ("llama", "num_hidden_layers", 1, "tensor(s) missing: model.layers."),
        ("gpt2", "n_layer", -1, "tensor(s) that the model of config.json does not use: transformer.h."),
        ("t5", "num_layers", 1, "tensor(s) missing: encoder.block."),
    ],
)  # fmt: skip
def test_plan_and_run_reject_another_number_of_layers_with_the_same_words(
    tmp_path: Path, family: str, key: str, change: int, message: str
) -> None:
    tiny_model(family, torch.float32).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {key: config[key] + change, "layer_types": None}))
    errors = []
    for check in (
        lambda: estimate_torch_engine(tmp_path, SPEC, batching=Batching()),
        lambda: load_model(tmp_path, SPEC),
    ):
        with pytest.raises(ModelError) as caught:
            check()
        errors.append(str(caught.value))
    assert message in errors[0]
    assert errors[0] == errors[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_fits_its_own_weights(tmp_path: Path, family: str) -> None:
    model = tiny_model(family, torch.float32)
    model.save_pretrained(tmp_path)
    stored = StoredWeights.read(tmp_path)
    unique = sum(weight.numel() for weight in model.parameters())
    assert unique <= stored.numbers <= unique + 1000  # buffers
    with bounded_by(stored, tmp_path):
        planned = build_without_weights(AutoConfig.from_pretrained(tmp_path))
    assert not any(stored.unmatched_layers(planned).values())


@pytest.mark.parametrize(
    ("dtype", "numbers"),
    [
        (torch.float32, 64),
        (torch.bfloat16, 64),
        (torch.float8_e4m3fn, 64),
        (torch.uint8, 256),
        (torch.int32, 1024),
    ],
)
def test_integers_may_be_several_packed_numbers(
    tmp_path: Path, dtype: torch.dtype, numbers: int
) -> None:
    save_file({"a": torch.zeros(8, 8, dtype=dtype)}, tmp_path / "model-00001-of-00001.safetensors")
    assert StoredWeights.read(tmp_path) == StoredWeights(frozenset(["a"]), numbers)
