"""Memory of a model, measured: cache per token from two tiny forwards, on the device or without weights.

    1 token   b1 bytes of cache          a token takes  b2 - b1
    2 tokens  b2 bytes of cache          a row takes    b1 - (b2 - b1)   whatever its length

The second line is the size of recurrent and convolution states. On the meta device the same two forwards need
neither weights nor time, so `plan` gets the same numbers. `planning/padded_batch_budget.py` derives limits from them.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Cache,
    PreTrainedConfig,
    PreTrainedModel,
)

from batchgen.engines.torch.quiet import quiet
from batchgen.planning.host_memory import free_host_memory
from batchgen.planning.padded_batch_budget import ModelMemory, activation_bytes

FreeMemory = Callable[[torch.device], int]
"""Bytes that are free on a device."""


@dataclass(frozen=True, slots=True)
class CacheNumbers:
    """How many numbers a cache holds."""

    per_token: int
    per_row: int


def free_memory(device: torch.device) -> int:
    """Bytes free on a device, including unused memory that torch has reserved."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_host_memory()


def release_memory(device: torch.device) -> None:
    """Return unused memory that torch has reserved, after an allocation failed."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Texts of errors by allocations outside of torch's own on a GPU, and of its own on a CPU."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that an allocation failed, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights, tied ones counted once."""
    return sum(weight.nbytes for weight in model.parameters())


def cache_numbers(model: PreTrainedModel, config: PreTrainedConfig) -> CacheNumbers:
    """Cache size of a model, measured, or from the sizes in its config if it cannot be measured."""
    text = config.get_text_config(decoder=True)
    guess = 2 * text.num_hidden_layers * _key_heads(text) * _head_width(text)
    return _measured(model) or CacheNumbers(guess, per_row=0)


def loaded_memory(model: PreTrainedModel, numbers: CacheNumbers) -> ModelMemory:
    """Memory of a loaded model besides its weights."""
    return _memory(model.config, model.dtype, numbers, weight_bytes=0)


def build_without_weights(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a config on the meta device, where tensors have shapes and no values."""
    loader = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    config = deepcopy(config)
    config.pad_token_id = None  # if it is set, GPT-2 searches for it in tokens without values
    with quiet(), torch.device("meta"):
        # Some expert layers accept only bfloat16 on this device. The numbers are only counted.
        model: PreTrainedModel = loader.from_config(config, dtype=torch.bfloat16).eval()
    return model


def planned_memory(model: PreTrainedModel, dtype: torch.dtype) -> ModelMemory:
    """Memory of a model that was built without weights, if it is loaded with this dtype."""
    weights = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    numbers = cache_numbers(model, model.config)
    return _memory(model.config, dtype, numbers, weight_bytes=weights)


def _memory(
    config: PreTrainedConfig, dtype: torch.dtype, numbers: CacheNumbers, *, weight_bytes: int
) -> ModelMemory:
    text = config.get_text_config(decoder=True)
    return ModelMemory(
        weight_bytes=weight_bytes,
        kv_bytes_per_token=numbers.per_token * dtype.itemsize,
        activation_bytes_per_token=activation_bytes(
            hidden=text.hidden_size,
            intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
            attention=(_heads(text) + 2 * _key_heads(text)) * _head_width(text),
            # The residual stream of bfloat16 models is in float32, and on some processors the inputs of products.
            item=max(dtype.itemsize, torch.float32.itemsize),
        ),
        vocab_size=text.vocab_size,
        state_bytes_per_row=numbers.per_row * dtype.itemsize,
    )


def _heads(text: PreTrainedConfig) -> int:
    return int(getattr(text, "num_attention_heads", 1))


def _key_heads(text: PreTrainedConfig) -> int:
    return int(getattr(text, "num_key_value_heads", None) or _heads(text))


def _head_width(text: PreTrainedConfig) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // _heads(text))


def _measured(model: PreTrainedModel) -> CacheNumbers | None:
    """The cache of two tiny forwards; None if the model returns none or cannot run like this."""
    try:
        with quiet():
            one, two = (_cache_numbers(model, tokens) for tokens in (1, 2))
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        # A few models read a value of a tensor, which is impossible on the meta device.
        return None
    per_token = two - one
    return CacheNumbers(per_token, one - per_token) if one else None


@torch.inference_mode()
def _cache_numbers(model: PreTrainedModel, tokens: int) -> int:
    ids = torch.zeros((1, tokens), dtype=torch.int64, device=model.device)
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    output = model(input_ids=ids, use_cache=True, **more)
    held = _tensors(output_cache(output))
    return sum(tensor.numel() for tensor in held if tensor.is_floating_point())


def _tensors(held: object) -> Iterator[Tensor]:
    """Every tensor of a cache, layer by layer, in whatever containers its layers keep them."""
    if isinstance(held, Tensor):
        yield held
        return
    inner: Iterable[object] = ()
    if isinstance(held, dict):
        inner = held.values()
    elif isinstance(held, list | tuple):
        inner = held
    elif isinstance(held, Cache) or type(held).__module__.startswith("transformers."):
        inner = vars(held).values()
    for one in inner:
        yield from _tensors(one)


_NAMES = ("cache", "past_key_values", "cache_params")
"""Names of the cache in transformers: from 5.24 on, before, and before in state-space models."""


def cache_argument(model: PreTrainedModel) -> str:
    """The name under which the model's forward takes its cache."""
    parameters = inspect.signature(model.forward).parameters
    return next((name for name in _NAMES if name in parameters), _NAMES[0])


def output_cache(output: Mapping[str, Any]) -> object:
    """The cache that a forward returned; None if it returned none."""
    return next((output[name] for name in _NAMES if name in output), None)
