"""What is known about a model before it is converted."""

import json
from pathlib import Path

import pytest

from batchgen.models.demo import DEMO_MODEL
from batchgen.models.demo.demo_model import DEMO_MODELS
from batchgen.models.pending_conversion import heads_of_pending_conversion
from tests.models.formats.gguf_bytes import write_gguf_bytes

HEADS = {
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "llama.embedding_length": 64,
}


def test_the_heads_of_a_gguf_file_are_known_before_it_is_converted(tmp_path: Path) -> None:
    file, cache = write_gguf_bytes(tmp_path / "m.gguf", **HEADS), tmp_path / "cache"
    assert heads_of_pending_conversion(str(file), cache) == (8, 2, 8)
    wide = write_gguf_bytes(tmp_path / "w.gguf", **HEADS, **{"llama.attention.key_length": 16})
    assert heads_of_pending_conversion(str(wide), cache) == (8, 2, 16)
    bare = write_gguf_bytes(tmp_path / "b.gguf")
    assert heads_of_pending_conversion(str(bare), cache) is None


@pytest.mark.parametrize("path", [None, "org/name", "missing.gguf"])
def test_a_model_that_is_not_converted_has_none(path: str | None, tmp_path: Path) -> None:
    assert heads_of_pending_conversion(path, tmp_path) is None


def test_the_heads_of_the_demo_model_are_those_of_its_config(
    demo_folder: Path, tmp_path: Path
) -> None:
    config = json.loads((demo_folder / "config.json").read_text("utf-8"))
    heads = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    assert heads_of_pending_conversion(DEMO_MODEL, tmp_path) == heads
    cache = demo_folder.parents[1]
    if DEMO_MODELS[DEMO_MODEL].folder(cache) == demo_folder:
        assert heads_of_pending_conversion(DEMO_MODEL, cache) is None
