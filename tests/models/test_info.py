from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from batchgen.errors import ModelError
from batchgen.models.find_model import ResolvedModel
from batchgen.models.info import (
    UNLIMITED,
    ModelInfo,
    read_model_info,
    tokenizer_identity,
    vocabulary_size,
)

Write = Callable[..., Path]


@pytest.fixture
def card_of(tmp_path: Path, write_model: Write) -> Callable[[dict[str, object]], ModelInfo]:
    """Reads the info of the tiny model after changes to its folder."""

    def read(changes: dict[str, object]) -> ModelInfo:
        folder = write_model(tmp_path / "model", changes)
        return read_model_info(ResolvedModel("tiny", folder, "folder", ""))

    return read


def test_the_info_of_a_complete_model(card_of: Callable[[dict[str, object]], ModelInfo]) -> None:
    card = card_of({})

    assert card.model_type == "llama"
    assert card.architectures == ("LlamaForCausalLM",)
    assert card.parameters == 260 * 8 + 8
    assert card.weight_bytes == 4 * card.parameters
    assert card.dtype == "bfloat16"
    assert card.context_length == 64
    assert card.vocab_size == 260
    assert card.generation_config == {"eos_token_id": [257, 0], "temperature": 0.7}
    assert card.end_token_sources == {
        "config": 257,
        "generation_config": (257, 0),
        "tokenizer": 257,
    }
    assert card.has_chat_template
    assert not card.is_encoder_decoder
    assert not card.remote_code
    assert card.files == ("model.safetensors",)


CONTEXTS: dict[str, tuple[dict[str, object], object, int]] = {
    # config less max_position_embeddings, the tokenizer's model_max_length, the context
    "llama": ({"max_position_embeddings": 8192}, 10**30, 8192),
    "gpt2": ({"n_positions": 1024, "n_ctx": 512}, 1024, 1024),
    "mpt": ({"max_seq_len": 2048}, 10**30, 2048),
    "bloom": ({"seq_length": 2048}, 10**30, 2048),
    "config before tokenizer": ({"max_position_embeddings": 32768}, 131072, 32768),
    "several parts": ({"text_config": {"max_position_embeddings": 4096}}, 10**30, 4096),
    "only the tokenizer": ({}, 512, 512),
    "written as a float": ({}, 512.0, 512),
    "the tokenizer's nonsense": ({}, 10**30, UNLIMITED),
    "unknown": ({}, None, UNLIMITED),
    "config's nonsense": ({"max_position_embeddings": "many"}, 512, 512),
    "zero": ({"max_position_embeddings": 0}, 512, 512),
}


@pytest.mark.parametrize(("facts", "tokenizer", "context"), CONTEXTS.values(), ids=CONTEXTS.keys())
def test_the_source_of_the_context_length(
    card_of: Callable[[dict[str, object]], ModelInfo],
    config: dict[str, Any],
    facts: dict[str, object],
    tokenizer: object,
    context: int,
) -> None:
    del config["max_position_embeddings"]
    card = card_of(
        {
            "config.json": {**config, **facts},
            "tokenizer_config.json": {"model_max_length": tokenizer},
        }
    )

    assert card.context_length == context


END_TOKENS: dict[str, tuple[dict[str, object], object]] = {
    # content of tokenizer_config.json, and the resulting id
    "text": ({"eos_token": "<|im_end|>"}, 257),
    "mapping": ({"eos_token": {"content": "<|im_end|>", "special": True}}, 257),
    "its own list": (
        {"eos_token": "<end>", "added_tokens_decoder": {"7": {"content": "<end>"}}},
        7,
    ),
    "a plain token": ({"eos_token": "A"}, 32),
    "unknown": ({"eos_token": "<nowhere>"}, None),
    "none": ({"eos_token": None}, None),
    "left out": ({}, None),
}


@pytest.mark.parametrize(("settings", "expected"), END_TOKENS.values(), ids=END_TOKENS.keys())
def test_the_end_token_of_the_tokenizer_is_found_by_its_text(
    card_of: Callable[[dict[str, object]], ModelInfo], settings: dict[str, object], expected: object
) -> None:
    card = card_of({"tokenizer_config.json": settings})

    assert card.end_token_sources.get("tokenizer") == expected


@pytest.mark.parametrize(
    ("in_config", "in_generation_config", "expected"),
    [
        (2, [2, 3], {"config": 2, "generation_config": (2, 3)}),
        ([2, 3], 2, {"config": (2, 3), "generation_config": 2}),
        (None, None, {}),
        ("2", [True, -1], {}),
    ],
)
def test_end_tokens_may_be_one_several_or_none(
    card_of: Callable[[dict[str, object]], ModelInfo],
    config: dict[str, Any],
    in_config: object,
    in_generation_config: object,
    expected: dict[str, object],
) -> None:
    card = card_of(
        {
            "config.json": {**config, "eos_token_id": in_config},
            "generation_config.json": {"eos_token_id": in_generation_config},
            "tokenizer_config.json": {},
        }
    )

    assert card.end_token_sources == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "chat_template.jinja"),
        (
            {"chat_template.jinja": None, "chat_template.json": {"chat_template": "x"}},
            "chat_template.json",
        ),
        (
            {"chat_template.jinja": None, "tokenizer_config.json": {"chat_template": "x"}},
            "tokenizer_config.json",
        ),
        ({"chat_template.jinja": None}, None),
    ],
)
def test_the_source_of_the_chat_template(
    card_of: Callable[[dict[str, object]], ModelInfo],
    changes: dict[str, object],
    expected: str | None,
) -> None:
    assert card_of(changes).chat_template == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"dtype": "float16"}, "float16"),
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"text_config": {"dtype": "float16"}}, "float16"),
        ({}, "float32"),
    ],
)
def test_the_dtype_is_that_of_the_config_or_of_the_stored_tensors(
    card_of: Callable[[dict[str, object]], ModelInfo],
    config: dict[str, Any],
    facts: dict[str, object],
    expected: str,
) -> None:
    del config["dtype"]

    assert card_of({"config.json": {**config, **facts}}).dtype == expected


def test_the_vocabulary_of_a_config_without_one_is_that_of_the_embedding(
    tmp_path: Path, write_model: Write, config: dict[str, Any]
) -> None:
    del config["vocab_size"]
    folder = write_model(tmp_path / "model", {"config.json": config})
    assert vocabulary_size(folder) == 260

    save_file({"vision.weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="no vocab_size"):
        vocabulary_size(folder)


def sharded(folder: Path, *, index: dict[str, str]) -> dict[str, object]:
    folder.mkdir()
    save_file({"a": np.zeros((2, 2), np.float32)}, folder / "model-1.safetensors")
    save_file({"b": np.zeros(3, np.float16)}, folder / "model-2.safetensors")
    return {"model.safetensors": None, "model.safetensors.index.json": {"weight_map": index}}


def test_shards_are_added_up(tmp_path: Path, write_model: Write) -> None:
    changes = sharded(
        tmp_path / "model", index={"a": "model-1.safetensors", "b": "model-2.safetensors"}
    )
    folder = write_model(tmp_path / "model", changes)

    card = read_model_info(ResolvedModel("tiny", folder, "folder", ""))

    assert card.parameters == 7
    assert card.weight_bytes == 22
    assert card.files == ("model-1.safetensors", "model-2.safetensors")


def test_shards_of_different_versions_are_rejected(tmp_path: Path, write_model: Write) -> None:
    changes = sharded(
        tmp_path / "model", index={"a": "model-2.safetensors", "b": "model-2.safetensors"}
    )
    folder = write_model(tmp_path / "model", changes)

    with pytest.raises(ModelError, match=r"model-2\.safetensors: tensor a is missing"):
        read_model_info(ResolvedModel("tiny", folder, "folder", ""))


def test_the_error_names_truncated_weights(tmp_path: Path, write_model: Write) -> None:
    folder = write_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(ModelError, match="truncated") as caught:
        read_model_info(ResolvedModel("tiny", folder, "folder", ""))

    assert str(weights) in caught.value.message


IDENTITY: dict[str, tuple[dict[str, object], set[str]]] = {
    # a change of the folder, and the parts of its identity that must change
    "nothing": ({}, set()),
    "a page": ({"README.md": "words"}, set()),
    "tokenizer": ({"tokenizer.json": "{}"}, {"tokenizer_sha256"}),
    "chat template": ({"chat_template.jinja": "{{ x }}"}, {"tokenizer_sha256"}),
    "another template": (
        {"additional_chat_templates/tools.jinja": "{{ x }}"},
        {"tokenizer_sha256"},
    ),
    "generation config": ({"generation_config.json": {}}, {"generation_config_sha256"}),
}


@pytest.mark.parametrize(("changes", "parts"), IDENTITY.values(), ids=IDENTITY.keys())
def test_the_identity_covers_what_affects_answers(
    card_of: Callable[[dict[str, object]], ModelInfo], changes: dict[str, object], parts: set[str]
) -> None:
    before = card_of({}).identity
    after = card_of(changes).identity

    assert {key for key in before if before[key] != after[key]} == parts


@pytest.mark.parametrize("place", [-1, 3_000_000, 5_123_457])
def test_different_weights_of_the_same_shape_have_different_identities(
    tmp_path: Path, write_model: Write, place: int
) -> None:
    """One bit of a large file, between any samples of it."""
    folder = write_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    save_file({**load_file(weights), "large": np.zeros(2_000_000, np.float32)}, weights)
    content = bytearray(weights.read_bytes())
    resolved = ResolvedModel("tiny", folder, "folder", "")
    before = read_model_info(resolved).identity
    content[place] ^= 1
    weights.write_bytes(content)

    after = read_model_info(resolved).identity

    assert {key for key in before if before[key] != after[key]} == {"weights_sha256"}


@pytest.mark.parametrize(
    "name", ["tokenizer.5.0.json", "additional_chat_templates/tools.jinja", "own.py"]
)
def test_the_identity_covers_the_tokenizer_settings(
    tmp_path: Path, write_model: Write, name: str
) -> None:
    """tokenizer_config.json may select a file by version of transformers, or name code."""
    bare, more = write_model(tmp_path / "a"), write_model(tmp_path / "b", {name: "{}"})

    assert tokenizer_identity(bare) != tokenizer_identity(more)
