"""Keys and values of a static batch: extended in place, joined from several prefills, compacted when rows finish.

    DynamicCache      copies the whole cache at every step (`torch.cat`) and at every reordering
    static_cache      the same layers, but plain attention writes into a larger buffer:

        keys [rows, heads, capacity, width]
        row 0   . . p p p p n n _ _        . left padding   p prompt
        row 1   p p p p p p n n _ _        n new tokens     _ free

Sliding windows and recurrent states are small and use transformers' own layers.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedConfig, cache_utils
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from batchgen.decoding.upload import upload


class GrowingLayer(DynamicLayer):
    """Attention keys and values in one buffer, of which `keys` and `values` are views. New tokens are written at the end."""

    def __init__(self, new_tokens: int) -> None:
        super().__init__()
        self._new_tokens = new_tokens
        self._buffers: tuple[Tensor, ...] = ()

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append [rows, heads, new, width]; returns all keys and values so far."""
        new = (key_states, value_states)
        used = self.get_seq_length()
        end = used + key_states.shape[-2]
        if not self._buffers or end > self._buffers[0].shape[-2]:
            self._enlarge(new, used, end + self._new_tokens)
        for buffer, states in zip(self._buffers, new, strict=True):
            buffer[: len(states), :, used:end] = states
        return self._show(len(key_states), end)

    def select_rows(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order. A row whose index stays the same is not copied."""
        if not self._buffers:
            return
        used = self.get_seq_length()
        moves = [(target, source) for target, source in enumerate(rows) if target != source]
        if moves:
            targets, sources = upload(torch.tensor(moves), self.device).unbind(1)
            for buffer in self._buffers:
                buffer[targets, :, :used] = buffer[sources, :, :used]
        self._show(len(rows), used)

    def _enlarge(self, new: tuple[Tensor, Tensor], used: int, capacity: int) -> None:
        old = self._buffers
        self._buffers = tuple(t.new_empty((*t.shape[:2], capacity, t.shape[3])) for t in new)
        for buffer, before in zip(self._buffers, old, strict=False):
            buffer[:, :, :used] = before[: len(buffer), :, :used]
        if not self.is_initialized:
            self.lazy_initialization(*new)

    def _show(self, rows: int, used: int) -> tuple[Tensor, Tensor]:
        keys, values = (buffer[:rows, :, :used] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


_EMPTY: type = getattr(cache_utils, "DummyLayer", type(None))
"""An empty layer of newer releases of transformers."""
_JOINABLE = (
    GrowingLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    _EMPTY,
)


class _Taken(DynamicLayer):
    """Replaces a joined layer, so that its memory is freed at once."""


def static_cache(config: PreTrainedConfig, new_tokens: int) -> DynamicCache:
    """An empty cache for a model; plain attention layers allocate `new_tokens` after the prompt."""
    cache = DynamicCache(config=config)
    for number, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[number] = GrowingLayer(new_tokens)
    return cache


def is_recurrent(cache: Cache) -> bool:
    """Whether no layer attends to earlier tokens: all layers have states of constant size."""
    return all(type(layer) in {LinearAttentionLayer, _EMPTY} for layer in cache.layers)


def is_joinable(cache: Cache) -> bool:
    """Whether `join_caches` supports every layer of this cache."""
    return all(type(layer) in _JOINABLE for layer in cache.layers)


def join_caches(caches: Sequence[DynamicCache], empty: DynamicCache) -> DynamicCache:
    """One cache, in `empty`, of the left-padded rows of several prefills, whose caches are emptied."""
    if len(caches) == 1:
        return caches[0]
    attention = any(isinstance(layer, CacheLayerMixin) for layer in empty.layers)
    longest = max(cache.get_seq_length() for cache in caches) if attention else 0
    for number, target in enumerate(empty.layers):
        parts: list[Any] = [cache.layers[number] for cache in caches]
        if isinstance(target, CacheLayerMixin):
            _join_attention(target, parts, longest)
        if isinstance(target, LinearAttentionCacheLayerMixin):
            _join_states(target, parts)
        for cache in caches:
            cache.layers[number] = _Taken()
    return empty


def select_rows(cache: Cache, rows: Sequence[int], device: torch.device) -> None:
    """Keep these rows of the cache, in this order."""
    index = cast(torch.LongTensor, upload(torch.tensor(rows), device))
    for layer in cache.layers:
        if isinstance(layer, GrowingLayer):
            layer.select_rows(rows)
        else:
            layer.reorder_cache(index)


def _join_attention(target: CacheLayerMixin, parts: Sequence[Any], longest: int) -> None:
    if parts[0].keys is None:
        return
    width = longest
    if isinstance(target, DynamicSlidingWindowLayer):
        width = min(longest, target.sliding_window - 1)
    keys = _left_padded([part.keys for part in parts], width)
    values = _left_padded([part.values for part in parts], width)
    target.update(keys, values)
    if isinstance(target, DynamicSlidingWindowLayer):
        target.cumulative_length = longest


def _left_padded(parts: Sequence[Tensor], width: int) -> Tensor:
    _, heads, _, size = parts[0].shape
    # Zeros, not uninitialized memory: attention gives padding the weight 0, and 0 x NaN is NaN.
    joined = parts[0].new_zeros((sum(map(len, parts)), heads, width, size))
    row = 0
    for part in parts:
        joined[row : row + len(part), :, width - part.shape[-2] :] = part
        row += len(part)
    return joined


def _join_states(target: LinearAttentionCacheLayerMixin, parts: Sequence[Any]) -> None:
    first = parts[0]
    for name in (
        "device",
        "dtype",
        "conv_kernel_size",
        "is_conv_states_initialized",
        "is_recurrent_states_initialized",
        "has_previous_state",
    ):
        setattr(target, name, getattr(first, name))
    for name in ("conv_states", "recurrent_states"):
        states = [getattr(part, name) for part in parts]
        joined = {
            number: None if state is None else torch.cat([one[number] for one in states])
            for number, state in states[0].items()
        }
        setattr(target, name, joined)
