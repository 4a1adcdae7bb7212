"""How a converted model is computed on this machine: number format, rows at a time, keys and values that fit."""

import os
from dataclasses import dataclass
from pathlib import Path

from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.host_memory import free_host_memory
from batchgen.planning.kv_cache_plan import KvCachePlan, plan_kv_cache
from batchgen.planning.padded_batch_budget import ModelMemory, activation_bytes, plannable_bytes
from batchgen.storage.json_file import read_json
from batchgen.storage.openvino_header import OpenvinoHeader, read_openvino_header

BLOCK_TOKENS = 32
"""Tokens of a block of OpenVINO's cache on a CPU."""
_MAX_SHARES = 8
_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_ITEM_BYTES = {"float32": 4, "bfloat16": 2}
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_USUAL_WIDTH = 4096


@dataclass(frozen=True, slots=True)
class OpenvinoCapacity:
    """What fits.

    Attributes:
        dtype: in which the model is computed; keys and values are kept in it too.
        weight_bytes: of the weights in memory.
    """

    dtype: str
    header: OpenvinoHeader
    weight_bytes: int
    kv_bytes_per_token: int
    free_bytes: int
    cache: KvCachePlan

    @property
    def rows(self) -> int:
        return self.cache.rows

    @property
    def step_tokens(self) -> int:
        """Most tokens of a step."""
        return self.cache.step_tokens

    @property
    def blocks(self) -> int:
        """Of keys and values."""
        return self.tokens // BLOCK_TOKENS

    @property
    def tokens(self) -> int:
        """Whose keys and values fit."""
        return self.cache.pages * self.cache.page_size + self.cache.arena

    @property
    def properties(self) -> dict[str, str]:
        """Settings of OpenVINO's CPU plugin: without them it keeps keys and values in 8 bits."""
        hint = _HINTS[self.dtype]
        return {"INFERENCE_PRECISION_HINT": hint, "KV_CACHE_PRECISION": hint}


def plan_capacity(folder: Path, model: ModelSpec, batching: Batching) -> OpenvinoCapacity:
    """Plan from the graph and config.json, without reading a weight; `model.dtype` is chosen.

    Raises:
        ModelError: a file is missing or damaged.
        ResourceError: not enough memory.
    """
    header = read_openvino_header(folder)
    item = _ITEM_BYTES[model.dtype]
    weights = header.weight_bytes
    if header.stored_as.startswith(("float", "bfloat")):
        weights = max(weights, header.parameters * item)
    text = read_json(folder / "config.json")
    width = next(
        (value for key in _WIDTHS if isinstance(value := text.get(key), int)), _USUAL_WIDTH
    )
    inner = text.get("intermediate_size")
    memory = ModelMemory(
        weight_bytes=0,
        kv_bytes_per_token=header.cache_per_token * item,
        activation_bytes_per_token=activation_bytes(
            hidden=width,
            intermediate=inner if isinstance(inner, int) else 4 * width,
            attention=3 * width,
            item=4,
        ),
        vocab_size=vocabulary_size(folder),
        state_bytes_per_row=header.cache_per_row * item,
    )
    free = free_host_memory()
    cache = plan_kv_cache(
        memory,
        available_bytes=plannable_bytes(free - weights, batching.memory_fraction, "cpu"),
        device="cpu",
        batching=batching,
        workers=min(os.cpu_count() or 1, _MAX_SHARES),
    )
    return OpenvinoCapacity(model.dtype, header, weights, memory.kv_bytes_per_token, free, cache)


def vocabulary_size(folder: Path) -> int:
    """Token ids that the model has, from config.json; the largest possible number if it states none."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config")
    for section in (config, inner if isinstance(inner, dict) else {}):
        if isinstance(size := section.get("vocab_size"), int):
            return size
    return 2**31 - 1
