"""A model with a merged adapter computes what peft computes with the adapter beside it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from batchgen.engines.torch.adapter.merge_adapter import check_finite, untie
from batchgen.engines.torch.engine import TorchEngine
from batchgen.engines.torch.model import LoadedModel, load_model
from batchgen.errors import AdapterError
from batchgen.job.spec import Batching, ModelSpec
from batchgen.lora.adapter_folder import read_adapter
from batchgen.records import ResolvedDecoding
from tests.engines.torch.adapter.peft_adapters import PeftAdapter, make_adapter
from tests.engines.torch.tiny_models import by_row, generated, loaded, prompts, requests, spell

QVD = ["q_proj", "v_proj", "down_proj"]
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA": ("llama", {"target_modules": QVD}),
    "rsLoRA": ("llama", {"target_modules": QVD, "use_rslora": True}),
    "DoRA": ("llama", {"target_modules": QVD, "use_dora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": QVD,
            "rank_pattern": {"q_proj": 2, r"layers\.1\..*v_proj": 7},
            "alpha_pattern": {"down_proj": 64},
        },
    ),
    "regex": ("llama", {"target_modules": r".*\.[02]\.self_attn\.(q|k)_proj"}),
    "all-linear": ("llama", {"target_modules": "all-linear"}),
    "layers": ("llama", {"target_modules": QVD, "layers_to_transform": [0, 2]}),
    "layers pattern": (
        "llama",
        {"target_modules": QVD, "layers_to_transform": 1, "layers_pattern": "layers"},
    ),
    "exclude": (
        "llama",
        {"target_modules": QVD, "exclude_modules": ["layers.0.self_attn.q_proj"]},
    ),
    "embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "embedding, tied": ("llama", {"tied": True, "target_modules": ["embed_tokens", "q_proj"]}),
    "embedding, DoRA": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "output, tied": ("llama", {"tied": True, "target_modules": ["lm_head", "q_proj"]}),
    "both, tied": ("llama", {"tied": True, "target_modules": ["lm_head", "embed_tokens"]}),
    "both, kept tied": (
        "llama",
        {"tied": True, "target_modules": ["lm_head", "embed_tokens"], "ensure_weight_tying": True},
    ),
    "saved modules": ("llama", {"target_modules": QVD, "modules_to_save": ["lm_head", "norm"]}),
    "saved embedding, tied": (
        "llama",
        {"tied": True, "target_modules": QVD, "modules_to_save": ["embed_tokens"]},
    ),
    "saved output, tied": (
        "llama",
        {"tied": True, "target_modules": QVD, "modules_to_save": ["lm_head"]},
    ),
    "Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "Conv1D, DoRA": (
        "gpt2",
        {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True},
    ),
    "fan_in_fan_out of Linear": ("llama", {"target_modules": QVD, "fan_in_fan_out": True}),
    "all biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
    "biases of targets": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "lora_bias": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "lora_bias": True}),
    "scaled embedding": ("gemma3_text", {"target_modules": ["embed_tokens", "o_proj"]}),
    "fused heads": ("gpt_neox", {"target_modules": ["query_key_value"]}),
    "encoder-decoder": ("t5", {"target_modules": ["q", "v", "wi"]}),
    "hybrid": ("lfm2", {"target_modules": "all-linear"}),
}
LONG = ResolvedDecoding(max_new_tokens=10)


@pytest.mark.parametrize(("family", "config"), VARIANTS.values(), ids=VARIANTS)
def test_a_merged_model_equals_the_model_of_peft(
    family: str, config: dict[str, Any], tmp_path: Path
) -> None:
    made = make_adapter(tmp_path, family, **config)
    merged = load_merged(made)
    expected = made.logits(made.tuned)
    assert not torch.allclose(made.logits(load(made)), expected, atol=0.05)
    torch.testing.assert_close(made.logits(merged.model), expected, atol=5e-5, rtol=0)
    prompt = prompts(1)[0]
    assert generated(merged.model, prompt).tolist() == generated(made.tuned, prompt).tolist()


@pytest.mark.parametrize("name", ["LoRA", "rsLoRA", "patterns", "Conv1D"])
def test_every_weight_is_the_one_that_peft_merges(name: str, tmp_path: Path) -> None:
    family, config = VARIANTS[name]
    made = make_adapter(tmp_path, family, **config)
    merged = load_merged(made).model.state_dict()
    expected = made.tuned.merge_and_unload().state_dict()
    assert merged.keys() == expected.keys()
    assert [n for n, weight in expected.items() if not torch.equal(weight, merged[n])] == []


@pytest.mark.parametrize("name", ["LoRA", "DoRA", "embedding, tied", "Conv1D"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_rounded_once(
    name: str, stored: torch.dtype, dtype: str, tmp_path: Path
) -> None:
    """Also if the checkpoint is in float32 and the model is computed in bfloat16."""
    family, config = VARIANTS[name]
    made = make_adapter(tmp_path, family, dtype=stored, **config)
    exact = load_merged(made, dtype="float32").model.state_dict()
    rounded = load_merged(made, dtype=dtype).model.state_dict()
    wanted = getattr(torch, dtype)
    changed = {*read_adapter(made.folder).tensors.matrices}
    for name, weight in exact.items():
        if name.removesuffix(".weight") in changed:
            assert torch.equal(weight.to(wanted), rounded[name]), name


@pytest.mark.parametrize("tier", ["continuous", "static"])
@pytest.mark.parametrize("name", ["DoRA", "embedding, tied", "output, tied"])
def test_both_fast_tiers_give_the_answers_of_peft(tier: Any, name: str, tmp_path: Path) -> None:
    family, config = VARIANTS[name]
    made = make_adapter(tmp_path, family, **config)

    class Tier(TorchEngine):
        fastest_tier = tier

    model = load_merged(made).model.double()  # float32 would compile kernels
    engine = Tier(loaded(model), batching=Batching(), decode=spell, should_stop=lambda: False)
    asked = prompts(4)
    found = by_row(engine.generate(requests(asked, LONG)))
    assert str(engine.facts()["tier"]).startswith(tier)
    made.tuned.double()
    for row, prompt in enumerate(asked):
        expected = generated(made.tuned, prompt, eos_token_id=None)[0, len(prompt) :].tolist()
        assert list(found[row].token_ids) == expected
    engine.close()


def test_untied_weights_count_twice(tmp_path: Path) -> None:
    made = make_adapter(tmp_path, tied=True, target_modules=["lm_head"])
    model = load(made)
    with torch.device("meta"):
        planned = type(model)(model.config)
    planned.tie_weights()
    before = sum(p.numel() for p in planned.parameters())
    untie(planned, read_adapter(made.folder))
    after = sum(p.numel() for p in load_merged(made).model.parameters())
    assert sum(p.numel() for p in planned.parameters()) == after > before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    made = make_adapter(tmp_path, target_modules=QVD)
    name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"
    change(made, name, value)
    with pytest.raises(AdapterError, match=f"tensors that are not finite: {name}"):
        check_finite(read_adapter(made.folder))
    with pytest.raises(AdapterError, match=r"not finite in float32: model\.layers\.1\.self_attn"):
        load_merged(made)


def test_a_sum_beyond_float16_is_an_error(tmp_path: Path) -> None:
    made = make_adapter(tmp_path, target_modules=QVD)
    change(made, "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", 1e6)
    check_finite(read_adapter(made.folder))
    load_merged(made)
    with pytest.raises(AdapterError, match=r"not finite in float16: model\.layers\.0\.mlp"):
        load_merged(made, dtype="float16")


def change(made: PeftAdapter, tensor: str, value: float) -> None:
    tensors = load_file(made.folder / "adapter_model.safetensors")
    tensors[tensor][0, 0] = value
    save_file(tensors, made.folder / "adapter_model.safetensors")


def load(made: PeftAdapter) -> Any:
    return load_model(made.base, ModelSpec(path=str(made.base), device="cpu")).model


def load_merged(made: PeftAdapter, **spec: Any) -> LoadedModel:
    named = {"path": str(made.base), "adapter": str(made.folder), "device": "cpu", **spec}
    return load_model(made.base, ModelSpec(**named))
