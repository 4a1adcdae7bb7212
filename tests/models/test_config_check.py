"""Sizes in config.json that no model has, or that the weights contradict, are rejected before anything is built."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from batchgen.errors import ModelError
from batchgen.models.find_model import ResolvedModel, resolve_model
from batchgen.models.info import ModelInfo, read_model_info

Write = Callable[..., Path]


def read(folder: Path) -> ModelInfo:
    return read_model_info(ResolvedModel("tiny", folder, "folder", ""))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads: 0; expected whole numbers of at least"),
        ({"num_attention_heads": "2"}, "num_attention_heads: 2; expected"),
        ({"num_key_value_heads": -1}, "num_key_value_heads: -1; expected"),
        ({"n_head": 0, "n_embd": 2.5}, "n_head: 0, n_embd: 2.5; expected"),
        ({"hidden_size": True}, "hidden_size: True; expected"),
        ({"vocab_size": 0}, "vocab_size: 0; expected"),
        ({"head_dim": float("nan")}, "head_dim: nan; expected"),
        ({"text_config": {"num_attention_heads": 0}}, "num_attention_heads: 0; expected"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: 1000000000, more layers than a model"),
        ({"n_layer": 10**9}, "n_layer: 1000000000, more layers"),
        ({"num_mtp_layers": 10**9}, "num_mtp_layers: 1000000000, more layers"),
        ({"vision_config": {"depth": 10**9}}, "vision_config.depth: 1000000000, more layers"),
        ({"encoder_layers": 10**9}, "encoder_layers: 1000000000, more layers"),
        ({"depths": [2, 10**9]}, "depths: 1000000000, more layers"),
    ],
)
def test_sizes_that_no_model_has_are_rejected(
    tmp_path: Path, write_model: Write, config: dict[str, Any], changes: object, message: str
) -> None:
    folder = write_model(tmp_path / "model", {"config.json": config | dict(changes)})  # type: ignore[call-overload]
    with pytest.raises(ModelError, match=message) as caught:
        resolve_model(str(folder))
    assert str(folder / "config.json") in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 1001}, "num_hidden_layers: 1001, more layers than 2 tensors can"),
        ({"vocab_size": 10**12}, r"vocab_size: 1000000000000, but .*embed_tokens.weight 260 x 8"),
        ({"vocab_size": 259}, "vocab_size: 259, but"),
        ({"hidden_size": 16}, "hidden_size: 16, but"),
        ({"hidden_size": 9, "vocab_size": 9}, "vocab_size: 9, hidden_size: 9, but"),
        ({"text_config": {"hidden_size": 16, "vocab_size": 260}}, "hidden_size: 16, but"),
    ],
)
def test_sizes_that_the_weights_contradict_are_rejected(
    tmp_path: Path, write_model: Write, config: dict[str, Any], changes: Any, message: str
) -> None:
    intermediate = {"intermediate_size": 17}  # no width of the embeddings
    folder = write_model(tmp_path / "model", {"config.json": config | intermediate | changes})
    with pytest.raises(ModelError, match=message):
        read(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 32, "word_embed_proj_dim": 8},
        {"intermediate_size": [16, 16], "num_key_value_heads": [2, 1]},
        {"num_key_value_heads": None},
        {"vision_config": {"hidden_size": 99, "num_attention_heads": 3, "depth": 24}},
        {"num_experts": 0, "num_nextn_predict_layers": 0, "n_shared_experts": 0},
        {"auto_map": {"AutoModel": "model.Model"}, "vocab_size": 200},
        {"block_size": 32_768, "max_window_layers": 28, "vision_feature_layer": -2},
    ],
)
def test_configs_of_real_shapes_are_accepted(
    tmp_path: Path, write_model: Write, config: dict[str, Any], changes: dict[str, object]
) -> None:
    folder = write_model(tmp_path / "model", {"config.json": config | changes})
    assert read(folder).parameters == 260 * 8 + 8


def test_quantised_embeddings_are_not_compared(tmp_path: Path, write_model: Write) -> None:
    folder = write_model(tmp_path / "model")
    weights = folder / "model.safetensors"
    packed = {"model.embed_tokens.weight": np.zeros((260, 2), np.uint8)}
    save_file(load_file(weights) | packed, weights)
    assert read(folder).vocab_size == 260
