"""A tiny model's folder, written without torch: two tensors, a byte-level tokenizer, a chat template."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
)
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": 257,
    "dtype": "bfloat16",
}
TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "<|im_end|>",
    "model_max_length": 10**30,
}
Files = dict[str, object]
"""Changes to the folder: a mapping is written as JSON, text and bytes as they are, None removes the file."""

WriteModel = Callable[..., Path]


def tokenizer_json() -> str:
    """256 bytes, then <|im_start|> 256 and <|im_end|> 257."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)]
    )
    return tokenizer.to_str()


def tensors() -> dict[str, Any]:
    return {
        "model.embed_tokens.weight": np.arange(260 * 8, dtype=np.float32).reshape(260, 8),
        "model.norm.weight": np.ones(8, dtype=np.float32),
    }


@pytest.fixture(scope="session")
def write_model() -> WriteModel:
    """Write a complete model into a folder, then apply changes to it."""
    vocabulary = tokenizer_json()

    def write(folder: Path, changes: Files | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors(), folder / "model.safetensors")
        files: Files = {
            "config.json": CONFIG,
            "generation_config.json": {"eos_token_id": [257, 0], "temperature": 0.7},
            "tokenizer.json": vocabulary,
            "tokenizer_config.json": TOKENIZER_CONFIG,
            "chat_template.jinja": TEMPLATE,
            **(changes or {}),
        }
        for name, content in files.items():
            _put(folder / name, content)
        return folder

    return write


def _put(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    if content is None:
        file.unlink(missing_ok=True)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


@pytest.fixture
def config() -> dict[str, Any]:
    """The tiny model's config.json."""
    return dict(CONFIG)
