"""An unmodified transformers model on a packed step.

The tokens of all rows go through the model as one sequence `[1, tokens]`. All that mixes tokens is attention, and that
is ours: `AttentionInterface` hands us queries, keys and values of a layer, and because no mask function is
registered under our name, transformers builds no mask. Right for models whose layers mix tokens in that place only;
the parity probe finds out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from batchgen.engines.torch.continuous.forward.attention import AttentionRule
from batchgen.engines.torch.continuous.forward.step_attention import LayerQkv, StepAttention
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.memory import cache_argument

NAME = "batchgen_slots"


class _CapturingLayer(CacheLayerMixin):
    """Tells the attention function which layer it is in; the keys and values go where that function says."""

    is_sliding = False

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to prepare."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Pass the new keys and values on: [1, heads, tokens, width]."""
        _current.get().layer = self._number
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """No mask is built."""
        return query_length, 0

    def get_seq_length(self) -> int:
        """Positions are given, not counted."""
        return 0

    def get_max_length(self) -> int:
        """No bound."""
        return -1


@dataclass(slots=True)
class _Current:
    """What a forward is in: its step, and the layer that was last heard of."""

    attend: StepAttention
    layer: int = 0


_current: ContextVar[_Current] = ContextVar("current step")


def _attend(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *_mask: Tensor | None,
    scaling: float | None = None,
    **settings: object,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query [1, heads, tokens, width]; the result [1, tokens, heads, width]."""
    current = _current.get()
    asked: dict[str, Any] = settings
    rule = AttentionRule(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=asked.get("sliding_window"),
        softcap=asked.get("softcap"),
        sinks=asked.get("s_aux"),
    )
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    return current.attend(LayerQkv(current.layer, q, k, v, rule))[None], None


AttentionInterface.register(NAME, _attend)


class TransformersForward:
    """Runs steps through the model's own forward."""

    name = "transformers"

    def __init__(self, model: PreTrainedModel) -> None:
        """Run `model`, whose attention is replaced by ours for the time of a forward."""
        self._model = model
        self._cache_argument = cache_argument(model)
        layers = model.config.get_text_config(decoder=True).num_hidden_layers
        self._cache = Cache(layers=[_CapturingLayer(number) for number in range(layers)])

    @torch.inference_mode()
    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        """Run a step on what `store` holds: logits [drawn, vocab] in the model's dtype."""
        token = _current.set(_Current(StepAttention(batch, store)))
        try:
            with _our_attention(self._model):
                output = self._model(
                    input_ids=batch.token_ids[None],
                    position_ids=batch.positions[None],
                    **{self._cache_argument: self._cache},
                    use_cache=True,
                    logits_to_keep=batch.drawn if len(batch.drawn) else 1,
                    return_dict=True,
                )
        finally:
            _current.reset(token)
        logits: Tensor = output.logits[0]
        return logits[: len(batch.drawn)]


@contextmanager
def _our_attention(model: PreTrainedModel) -> Iterator[None]:
    """Attention by us for the time of a forward, the model's own again afterwards."""
    config = model.config.get_text_config(decoder=True)
    own = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
