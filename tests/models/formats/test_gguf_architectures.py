"""Every architecture that is accepted: greedy answers equal those of transformers' own loading of the same GGUF file."""

from pathlib import Path
from typing import Any

import pytest

from batchgen.models.formats.conversion import run_conversion
from batchgen.models.formats.gguf_header import ARCHITECTURES
from batchgen.progress import SILENT

gguf = pytest.importorskip("gguf", reason="needs the extra: demo")
pytest.importorskip("accelerate", reason="needs the extra: demo")

pytestmark = pytest.mark.soak
WIDTH, HEADS, KEYS, VOCABULARY = 32, 4, 2, 96
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2moe": ("qwen2_moe", _EXPERTS),
    "qwen3moe": ("qwen3_moe", {**_EXPERTS, "head_dim": 8, "norm_topk_prob": True}),
    "gemma2": ("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 256, "sliding_window": 8}),
    "gemma3": ("gemma3_text", {"head_dim": 8, "query_pre_attn_scalar": 256, "sliding_window": 8}),
    "phi3": ("phi3", {}),
    "falcon": ("falcon", {"num_kv_heads": 1}),
    "gpt2": (
        "gpt2",
        {"n_embd": WIDTH, "n_layer": 2, "n_head": HEADS, "max_position_embeddings": 1024},
    ),
    "starcoder2": ("starcoder2", {}),
    "stablelm": ("stablelm", {}),
    "nemotron": ("nemotron", {}),
}
"""By the name in GGUF: that in transformers, and what its config has beside `COMMON`."""
ELSEWHERE = {"llama", "qwen2", "qwen3"}
"""Those of `test_gguf_answers.py`."""


def test_every_accepted_architecture_is_tested() -> None:
    assert set(CONFIGS) | ELSEWHERE == set(ARCHITECTURES)


def write_gguf(file: Path, architecture: str) -> Path:
    """A file with random weights, in the shapes and under the names from which transformers reads them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, modeling_gguf_pytorch_utils

    library: Any = modeling_gguf_pytorch_utils
    kind, more = CONFIGS[architecture]
    config = AutoConfig.for_model(kind, **{**COMMON, **more})
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    process = library.TENSOR_PROCESSORS.get(architecture, library.TensorProcessor)
    names = library.get_gguf_hf_weights_map(model, process(config=config.to_dict()))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    writer = gguf.GGUFWriter(file, architecture)
    mapping = library.GGUF_CONFIG_MAPPING.get(kind) or library.GGUF_CONFIG_MAPPING[architecture]
    for key, attribute in mapping.items():
        value = getattr(config, attribute or "", None)
        if isinstance(value, float):
            writer.add_float32(f"{architecture}.{key}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"{architecture}.{key}", value)
    add_vocabulary(writer, "llama" if architecture.startswith("gemma") else "gpt2")
    torch.manual_seed(3)
    for name, of_model in sorted(names.items()):
        if name != "output.weight" or not config.tie_word_embeddings:
            shape = stored_shape(architecture, name, shapes[of_model])
            weight = torch.randn(shape) * 0.5
            # The map of transformers has the merged experts without it.
            name = f"{name}.weight" if name.endswith("_exps") else name
            writer.add_tensor(name, (weight.abs() + 0.5 if "norm" in name else weight).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def stored_shape(architecture: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in the file of a tensor of the model."""
    if architecture == "gpt2" and any(
        part in name for part in ("attn_qkv.w", "ffn_down.w", "ffn_up.w", "attn_output.w")
    ):
        return shape[::-1]
    if "_exps" in name and "down" not in name:
        return shape[0], shape[1] // 2, shape[2]  # gate and up are one tensor in the model
    if "ffn_gate_inp_shexp" in name:
        return shape[1:]
    return shape


def add_vocabulary(writer: Any, model: str) -> None:
    letters = [*(chr(ord("!") + n) for n in range(VOCABULARY - 4)), "ab"]
    tokens = ["<pad>", "<s>", "</s>", *letters]
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * len(letters)])
    if model == "llama":
        writer.add_token_scores([-float(n) for n in range(VOCABULARY)])
    else:
        writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_greedy_answers_are_those_of_transformers(architecture: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from batchgen.engines.torch.engine import TorchEngine
    from batchgen.engines.torch.model import load_model
    from batchgen.job.spec import Batching, ModelSpec
    from batchgen.records import ResolvedDecoding
    from tests.engines.torch.tiny_models import alone, by_row, requests
    from tests.plain_decoder import PlainDecoder

    file = write_gguf(tmp_path / "m.gguf", architecture)
    made = tmp_path / "made"
    made.mkdir()
    run_conversion(file.name, file, made, SILENT)

    loader: Any = AutoModelForCausalLM
    reference = loader.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32).eval()
    prompts = [[1, *torch.randint(3, VOCABULARY, (n,)).tolist()] for n in (4, 11, 7)]
    expected = [alone(reference, prompt, eos_token_id=2)[0] for prompt in prompts]

    loaded = load_model(made, ModelSpec(path="m", dtype="float32"))
    engine = TorchEngine(
        loaded, batching=Batching(), decode=PlainDecoder(str), should_stop=lambda: False
    )
    decoding = ResolvedDecoding(max_new_tokens=10, end_token_ids=frozenset({2}))
    found = by_row(engine.generate(requests(prompts, decoding)))
    assert [list(found[row].token_ids) for row in range(len(prompts))] == expected
    assert len(set(map(tuple, expected))) > 1
    assert not any(bool(weight.isnan().any()) for weight in loaded.model.parameters())
