"""Loading of models, and errors with hints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from batchgen.engines.torch.model import load_model, pick_device, planned_dtype, read_config
from batchgen.engines.torch.precision.torch_machine import TorchMachine
from batchgen.errors import ModelError, ResourceError
from batchgen.job.spec import ModelSpec
from tests.engines.torch.tiny_models import alone, prompts, tiny_model

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model("llama", torch.bfloat16).save_pretrained(tmp_path)
    return tmp_path


def spec(**fields: Any) -> ModelSpec:
    return ModelSpec(path="model", **fields)


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("asked", "checkpoint", "speedup", "loaded"),
    [
        ("auto", torch.bfloat16, None, torch.float32),
        ("auto", torch.bfloat16, 3.0, torch.bfloat16),
        ("auto", torch.float16, 3.0, torch.float32),
        ("auto", torch.float32, 3.0, torch.float32),
        ("bfloat16", torch.float16, None, torch.bfloat16),
        ("float16", torch.float16, None, torch.float16),
    ],
)
def test_the_dtype_on_a_cpu(
    asked: str,
    checkpoint: torch.dtype,
    speedup: float | None,
    loaded: torch.dtype,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With or without fast bfloat16 products; the plan expects the same, and the weights stay those of the folder."""
    monkeypatch.setattr(TorchMachine, "bfloat16_flags", lambda _: ("amx_bf16",))
    monkeypatch.setattr(TorchMachine, "bfloat16_speedup", lambda _: speedup)
    model = tiny_model("llama", checkpoint)
    model.save_pretrained(tmp_path)
    made = load_model(tmp_path, spec(dtype=asked, device="cpu"))
    config = read_config(tmp_path, spec())
    assert made.dtype == planned_dtype(spec(dtype=asked, device="cpu"), config) == loaded
    stored = {name: tensor.to(loaded) for name, tensor in model.state_dict().items()}
    assert all(torch.equal(stored[name], one) for name, one in made.model.state_dict().items())


def test_the_weights_are_those_of_the_folder(folder: Path) -> None:
    prompt = prompts(1)[0]
    expected: Any = tiny_model("llama", torch.bfloat16)
    assert alone(load_model(folder, spec(dtype="float32")).model, prompt) == alone(
        expected.float(), prompt
    )


def test_facts_describe_the_computation(folder: Path) -> None:
    facts = load_model(
        folder, spec(attn_implementation="eager", device="cpu", dtype="float32")
    ).facts()
    assert {
        "device": "cpu",
        "dtype": "float32",
        "attn_implementation": "eager",
    }.items() <= facts.items()


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    model = tiny_model("gpt2", torch.float32)
    model.save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)
    assert load_model(tmp_path, spec()).vocab_size == 97


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.vision_tower.blocks.0.weight",
        "visual.merger.weight",
        "mtp.layers.0.weight",
    ],
)
def test_tensors_that_text_does_not_need_may_be_left_out(folder: Path, name: str) -> None:
    tensors = {**load_file(folder / WEIGHTS), name: torch.ones(3)}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    assert load_model(folder, spec()).vocab_size == 97


def test_an_encoder_decoder_model_is_recognized(tmp_path: Path) -> None:
    tiny_model("t5", torch.float32).save_pretrained(tmp_path)
    assert load_model(tmp_path, spec()).encoder_decoder


def test_the_sampling_settings_of_the_model_are_removed(folder: Path) -> None:
    own = {"do_sample": True, "temperature": 0.3, "repetition_penalty": 1.8, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(own))
    config = load_model(folder, spec()).model.generation_config
    assert all(getattr(config, name) is None for name in own)


def with_one_layer_fewer(folder: Path) -> None:
    layers = json.loads((folder / "config.json").read_text())["num_hidden_layers"]
    edit_config(folder, num_hidden_layers=layers - 1)


def with_a_foreign_tensor(folder: Path) -> None:
    save_file(
        {**load_file(folder / WEIGHTS), "model.extra.weight": torch.ones(3)},
        folder / WEIGHTS,
        {"format": "pt"},
    )


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def with_another_shape(folder: Path) -> None:
    edit_config(folder, intermediate_size=40)


def truncated(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def without_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_a_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def with_an_unknown_activation(folder: Path) -> None:
    edit_config(folder, hidden_act="nonsense")


def of_an_unknown_kind(folder: Path) -> None:
    edit_config(folder, model_type="somethingelse", architectures=["SomethingElse"])


def with_code_of_its_own(folder: Path) -> None:
    edit_config(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})


def with_attention_from_a_stranger(folder: Path) -> None:
    edit_config(folder, _attn_implementation="stranger/kernel")


def with_attention_from_a_stranger_in_a_part(folder: Path) -> None:
    edit_config(folder, sub={"model_type": "llama"}, attn_implementation={"": "stranger/kernel"})


def with_attention_under_another_name(folder: Path) -> None:
    edit_config(folder, attribute_map={"zzz": "_attn_implementation"}, zzz="stranger/kernel")


def with_attention_under_the_name_of_its_place(folder: Path) -> None:
    edit_config(
        folder, attribute_map={"zzz": "_attn_implementation_internal"}, zzz="stranger/kernel"
    )


def with_attention_of_one_layer(folder: Path) -> None:
    edit_config(folder, per_layer_config={"1": {"_attn_implementation": "stranger/kernel"}})


def with_attention_that_is_not_installed(folder: Path) -> None:
    edit_config(folder, attn_implementation="flash_attention_2")


def with_experts_from_a_stranger(folder: Path) -> None:
    edit_config(folder, experts_implementation="sonicmoe")


def quantised_by_a_package_that_is_not_here(folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": "torchao", "quant_type": {}})


BAD: dict[Callable[[Path], None], tuple[str, str]] = {
    with_one_layer_fewer: (
        "9 tensor(s) that the model of config.json does not use: model.layers.2.input_layernorm.weight",
        "another config.json",
    ),
    with_a_foreign_tensor: (
        "1 tensor(s) that the model of config.json does not use: model.extra.weight",
        "another",
    ),
    without_a_tensor: ("1 tensor(s) missing: model.layers.1.mlp.up_proj.weight", "incomplete"),
    with_another_shape: (
        "with another shape than in config.json: model.layers.0.mlp.down_proj.weight",
        "incomplete",
    ),
    truncated: ("Safetensor", "is damaged"),
    pickled: ("cannot be loaded", "pytorch_model.bin"),
    without_weights: ("cannot be loaded", "contains config.json and model.safetensors"),
    without_a_config: ("cannot be loaded", "Check that the folder is complete"),
    with_a_broken_config: ("config.json", "Check that the folder is complete"),
    of_an_unknown_kind: ("somethingelse", "supports the model"),
    with_code_of_its_own: ("cannot be loaded", "trust_remote_code: true"),
    with_attention_from_a_stranger: ("stranger/kernel", "attn_implementation: sdpa"),
    with_attention_from_a_stranger_in_a_part: ("stranger/kernel", "attn_implementation: sdpa"),
    with_attention_under_another_name: ("stranger/kernel", "attn_implementation: sdpa"),
    with_attention_under_the_name_of_its_place: ("stranger/kernel", "attn_implementation: sdpa"),
    with_attention_of_one_layer: ("stranger/kernel", "attn_implementation: sdpa"),
    with_attention_that_is_not_installed: ("flash_attention_2", "attn_implementation: sdpa"),
    with_experts_from_a_stranger: ("experts_implementation: 'sonicmoe'", "Remove this key"),
    with_an_unknown_activation: (
        "config.json: hidden_act: 'nonsense' is unknown to transformers 5.",
        "this version of transformers supports the model",
    ),
    quantised_by_a_package_that_is_not_here: ("No module named 'torchao'", "Install"),
}


@pytest.mark.parametrize("damage", BAD, ids=lambda damage: damage.__name__)
def test_the_error_of_an_invalid_model_folder_names_it(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    with pytest.raises(ModelError) as caught:
        load_model(folder, spec())
    found, hint = BAD[damage]
    assert str(folder) in caught.value.message
    assert found in caught.value.message
    assert hint in caught.value.hint


def test_the_attention_of_the_job_overrides_the_config(folder: Path) -> None:
    edit_config(folder, attn_implementation="flash_attention_2")
    facts = load_model(folder, spec(attn_implementation="eager")).facts()
    assert facts["attn_implementation"] == "eager"


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        read_config(tmp_path / "absent", spec())


def test_a_missing_device_is_an_error() -> None:
    with pytest.raises(ResourceError, match="cuda:97"):
        pick_device("cuda:97")
