"""Memory of a model: measurements with and without weights agree."""

import pytest
import torch
from transformers import PreTrainedModel

from batchgen.engines.torch.memory import (
    build_without_weights,
    cache_numbers,
    free_memory,
    loaded_memory,
    out_of_memory,
    planned_memory,
)
from batchgen.planning.padded_batch_budget import ModelMemory
from tests.engines.torch.tiny_models import CPU, tiny_model

FLOAT = 4


def measured(model: PreTrainedModel) -> ModelMemory:
    return loaded_memory(model, cache_numbers(model, model.config))


@pytest.mark.parametrize(
    ("family", "per_token", "per_row"),
    [
        # layers x (keys + values) x heads x width
        ("llama", 3 * 2 * 2 * 8 * FLOAT, 0),
        ("gpt2", 3 * 2 * 4 * 8 * FLOAT, 0),
        ("gemma3_text", 3 * 2 * 2 * 8 * FLOAT, 0),
        # One attention layer; two layers that remember the last 3 of 32 channels.
        ("lfm2", 1 * 2 * 2 * 8 * FLOAT, 2 * 32 * 3 * FLOAT),
        # No attention: convolution (4 places) and state (16) of 48 channels in 3 layers.
        ("mamba", 0, 3 * 48 * (4 + 16) * FLOAT),
        # Keys and values of the decoder, and those of the encoded prompt.
        ("t5", 2 * (2 * 2 * 4 * 8) * FLOAT, 0),
    ],
)
def test_cache_of_a_token_and_of_a_row(family: str, per_token: int, per_row: int) -> None:
    memory = measured(tiny_model(family, torch.float32))
    assert (memory.kv_bytes_per_token, memory.state_bytes_per_row) == (per_token, per_row)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "lfm2", "mamba", "bloom", "t5"])
def test_a_plan_without_weights_equals_one_with_weights(family: str) -> None:
    model = tiny_model(family, torch.float32)
    planned = planned_memory(build_without_weights(model.config), torch.float32)
    found = measured(model)
    assert planned.kv_bytes_per_token == found.kv_bytes_per_token
    assert planned.state_bytes_per_row == found.state_bytes_per_row
    assert planned.activation_bytes_per_token == found.activation_bytes_per_token
    weights = {weight.data_ptr(): weight for weight in model.parameters()}
    assert planned.weight_bytes == sum(w.numel() for w in weights.values()) * FLOAT
    assert found.weight_bytes == 0


def test_a_half_precision_plan_is_half_as_large() -> None:
    model = build_without_weights(tiny_model("llama").config)
    single, half = (planned_memory(model, dtype) for dtype in (torch.float32, torch.bfloat16))
    assert single.kv_bytes_per_token == 2 * half.kv_bytes_per_token
    assert single.weight_bytes == 2 * half.weight_bytes
    # The residual stream is in float32.
    assert single.activation_bytes_per_token == half.activation_bytes_per_token


def test_a_cpu_has_free_memory() -> None:
    assert 0 < free_memory(CPU) < 2**50


def test_a_failed_cpu_allocation_is_recognized() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_a_failed_allocation_of_a_gpu_is_recognized(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected
