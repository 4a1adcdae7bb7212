"""A model written as GGUF by the package gguf answers as the same model in the format of transformers."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from batchgen.errors import ModelError
from batchgen.jobfile.load import load_job
from batchgen.models.formats.conversion import run_conversion
from batchgen.progress import SILENT
from batchgen.run.run import run

gguf = pytest.importorskip("gguf", reason="needs the extra: demo")
pytest.importorskip("accelerate", reason="needs the extra: demo")

pytestmark = pytest.mark.soak
CONTEXT, WIDTH, HEADS, KEYS = 128, 32, 4, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPTS = ["The year 2024  is over", "naïve café, 你好", "don't  stop\n\nnow", "x = 1234567 + 8"]
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEYS,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "llama 3 rope": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10_000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "head_dim": 64,
    },
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": True, "head_dim": 16},
}
SPLITS = {"llama": "smollm", "qwen2": "qwen2", "qwen3": "qwen2"}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
}


def tokenizer_of(split: str) -> Tokenizer:
    """A byte-level BPE with 60 merges, split as the GGUF file states."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    tokenizer = Tokenizer(BPE())
    qwen = [
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    smollm = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(qwen if split == "qwen2" else smollm)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + 60,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(PROMPTS * 3, trainer)
    return tokenizer


def write_model(folder: Path, family: str) -> Path:
    """A random model as transformers saves it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    kind = family.partition(" ")[0]
    backend = tokenizer_of(SPLITS[kind])
    config = AutoConfig.for_model(
        kind, vocab_size=backend.get_vocab_size(), **COMMON, **MODELS[family]
    )
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    for name, weight in model.named_parameters():
        # Exact in float16, so that a file in float16 loses nothing; weights of norms are positive.
        drawn = torch.randn_like(weight).half().float()
        weight.data = drawn.abs() if "norm" in name else (drawn * 0.25).half().float()
    model.tie_weights()
    model.save_pretrained(folder)
    make: Any = PreTrainedTokenizerFast
    make(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)
    return folder


def gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def stored(name: str, tensor: Any, kind: str, heads: dict[str, int]) -> Any:
    """As llama.cpp stores it: rows of queries and keys of a llama are permuted."""
    rows = next((count for part, count in heads.items() if part in name), 0)
    if kind != "llama" or not rows:
        return tensor
    return tensor.reshape(rows, 2, -1, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def sizes(config: dict[str, Any]) -> dict[str, Any]:
    """By the names of the methods of GGUFWriter."""
    width = config.get("head_dim") or WIDTH // HEADS
    return {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": 2,
        "feed_forward_length": 64,
        "head_count": HEADS,
        "head_count_kv": KEYS,
        "key_length": width,
        "value_length": width,
        "layer_norm_rms_eps": 1e-5,
        "rope_freq_base": config["rope_parameters"]["rope_theta"],
        "rope_dimension_count": width,
        "vocab_size": config["vocab_size"],
    }


def vocabulary(folder: Path, kind: str) -> dict[str, Any]:
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = backend.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    merges = json.loads((folder / "tokenizer.json").read_text())["model"]["merges"]
    return {
        "tokenizer_model": "gpt2",
        "tokenizer_pre": SPLITS[kind],
        "token_list": tokens,
        "token_types": [3 if token in SPECIAL else 1 for token in tokens],
        "token_merges": [" ".join(merge) for merge in merges],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "add_bos_token": False,
        "chat_template": TEMPLATE,
    }


def write_gguf(file: Path, folder: Path, family: str, store: str) -> Path:
    import numpy as np
    from safetensors.numpy import load_file

    kind = family.partition(" ")[0]
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, kind)
    for key, value in {**sizes(config), **vocabulary(folder, kind)}.items():
        getattr(writer, f"add_{key}")(value)
    heads = {"q_proj": HEADS, "k_proj": KEYS}
    for name, tensor in load_file(folder / "model.safetensors").items():
        data = stored(name, tensor, kind, heads)
        if store == "F16" and data.ndim == 2:
            data = data.astype(np.float16)
        if store == "Q8_0" and data.ndim == 2:
            packed = gguf.quants.quantize(data, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(gguf_name(name), data)
    if family == "llama 3 rope":
        writer.add_tensor("rope_freqs.weight", llama_3_factors(config["head_dim"]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def llama_3_factors(width: int) -> Any:
    """As llama.cpp's convert_hf_to_gguf.py computes them."""
    import numpy as np

    factors = []
    for frequency in 10_000.0 ** (-np.arange(0, width, 2) / width):
        wave = 2 * math.pi / frequency
        smooth = (8192 / wave - 1) / (4 - 1)
        if wave < 8192 / 4:
            factors.append(1.0)
        elif wave > 8192:
            factors.append(32.0)
        else:
            factors.append(1 / ((1 - smooth) / 32 + smooth))
    return np.array(factors, dtype=np.float32)


def answers(make_job: Callable[..., Path], folder: Path, path: Path) -> list[str]:
    """Greedy answers of a job with this model."""
    job = make_job(
        [{"q": prompt} for prompt in PROMPTS],
        model={"path": str(path), "engine": "transformers", "dtype": "float32"},
        decoding={"max_new_tokens": 24},
        output={"path": str(folder)},
    )
    result = run(load_job(job))
    return pl.read_parquet(result.folder.responses)["response"].to_list()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("family", MODELS)
def test_answers_of_a_gguf_file_equal_those_of_the_same_model(
    make_job: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    store = "F16" if family == "qwen2" else "F32"
    folder = write_model(tmp_path / "hf", family)
    file = write_gguf(tmp_path / "m.gguf", folder, family, store)

    expected = answers(make_job, tmp_path / "expected", folder)

    assert len(set(expected)) == len(PROMPTS)
    assert answers(make_job, tmp_path / "found", file) == expected


def test_a_quantised_file_has_the_numbers_that_gguf_reads(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = write_model(tmp_path / "hf", "qwen2")
    file = write_gguf(tmp_path / "m.gguf", folder, "qwen2", "Q8_0")
    made = tmp_path / "made"
    made.mkdir()

    run_conversion("m.gguf", file, made, SILENT)

    found, expected = load_file(made / "model.safetensors"), load_file(folder / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        largest = weight.abs().max()
        assert found[name].dtype == torch.float32
        assert (found[name] - weight).abs().max() <= largest / 127


def test_a_tensor_that_would_be_lost_is_an_error(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "hf", "qwen2")
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file(
        {**tensors, "blk.0.mystery.weight": tensors["model.norm.weight"]},
        folder / "model.safetensors",
    )
    file = write_gguf(tmp_path / "m.gguf", folder, "qwen2", "F32")
    made = tmp_path / "made"
    made.mkdir()

    with pytest.raises(ModelError, match=r"does not load blk\.0\.mystery\.weight"):
        run_conversion("m.gguf", file, made, SILENT)
