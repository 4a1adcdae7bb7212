"""How much memory vLLM may take: it takes a share of all memory of a device at once, and fails if that is not free."""

import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.engines.vllm.vllm_arguments import given_arguments
from batchgen.job.spec import Batching, ModelSpec
from batchgen.planning.host_memory import free_host_memory
from batchgen.planning.padded_batch_budget import plannable_bytes
from batchgen.storage.json_file import read_json

ROWS = 256
"""Rows at a time that vLLM's own default allows at least."""
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_SMALLEST_CACHE = 64 << 20


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of the first GPU, as nvidia-smi reports them."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class ModelBytes:
    """What a model takes, from its config and the sizes of its files.

    Attributes:
        per_token: of keys and values; 0 if the config does not say.
        context: tokens of the longest row.
    """

    weights: int
    per_token: int
    context: int


def memory_arguments(
    model: ModelSpec, folder: Path, batching: Batching, *, on_cpu: bool
) -> dict[str, object]:
    """Arguments of `EngineArgs` that limit memory, unless the job has its own."""
    if "kv_cache_memory_bytes" in given_arguments(model):
        return {}
    if not on_cpu:
        memory = gpu_memory()
        free = memory.free / memory.total if memory else 1.0
        return {"gpu_memory_utilization": round(batching.memory_fraction * free, 3)}
    return {"kv_cache_memory_bytes": host_cache_bytes(model, folder, batching)}


def host_cache_bytes(model: ModelSpec, folder: Path, batching: Batching) -> int:
    """Keys and values on a CPU: what the rows can need, if there is so much memory."""
    needs = model_bytes(model, folder)
    usable = plannable_bytes(free_host_memory(), batching.memory_fraction, "cpu") - needs.weights
    rows = ROWS if batching.max_rows == "auto" else batching.max_rows
    wanted = rows * needs.context * needs.per_token or usable
    return max(_SMALLEST_CACHE, min(usable, wanted))


def gpu_memory() -> DeviceMemory | None:
    """Memory of the first visible GPU; None if nvidia-smi does not report it."""
    query = ["nvidia-smi", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    with suppress(OSError, ValueError, IndexError, subprocess.SubprocessError):
        ran = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        free, total = (int(part) << 20 for part in ran.stdout.splitlines()[0].split(","))
        return DeviceMemory(free, total)
    return None


def model_bytes(model: ModelSpec, folder: Path) -> ModelBytes:
    """The sizes of a model, without reading a weight.

    Raises:
        ModelError: its config cannot be read.
    """
    config = read_json(folder / "config.json")
    text = config.get("text_config")
    section: Mapping[str, Any] = text if isinstance(text, dict) else config
    stated = str(section.get("dtype") or section.get("torch_dtype") or "float32")
    item = _ITEM_BYTES.get(stated if model.dtype == "auto" else model.dtype, 4)
    width = _number(section, "hidden_size") // max(1, _number(section, "num_attention_heads"))
    head = _number(section, "head_dim") or width
    heads = _number(section, "num_key_value_heads") or _number(section, "num_attention_heads")
    return ModelBytes(
        weights=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        per_token=2 * _number(section, "num_hidden_layers") * heads * head * item,
        context=model.max_model_len or _number(section, "max_position_embeddings") or 2048,
    )


def _number(section: Mapping[str, Any], name: str) -> int:
    value = section.get(name)
    return value if isinstance(value, int) else 0
