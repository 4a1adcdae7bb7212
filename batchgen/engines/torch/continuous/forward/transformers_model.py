"""An unmodified transformers model on a packed step.

The tokens of all rows are one sequence `[1, tokens]` for the model. Only attention mixes tokens, and ours replaces it:
`AttentionInterface` passes queries, keys and values of a layer, and transformers builds no mask, because no mask function
is registered under our name. Correct for models whose layers mix tokens in attention only; the parity probe tests this.
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

from batchgen.engines.torch.continuous.forward.attention import AttentionRule, LayerQkv
from batchgen.engines.torch.continuous.forward.step_attention import StepAttention
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.memory import cache_argument

NAME = "batchgen_continuous"


class _CapturingLayer(CacheLayerMixin):
    """Passes the layer number to the attention function, which stores keys and values."""

    is_sliding = False

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None: ...

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Return the new keys and values [1, heads, tokens, width]."""
        _current.get().layer = self._number
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        """Always 0: positions are explicit."""
        return 0

    def get_max_length(self) -> int:
        return -1


@dataclass(slots=True)
class _Current:
    """State of a forward: its step and current layer."""

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
    """Attention function for transformers: query [1, heads, tokens, width]; returns [1, tokens, heads, width]."""
    current = _current.get()
    options: dict[str, Any] = settings
    rule = AttentionRule(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=options.get("sliding_window"),
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
    )
    q, k, v = (t[0].transpose(0, 1) for t in (query, key, value))
    return current.attend(LayerQkv(current.layer, q, k, v, rule))[None], None


AttentionInterface.register(NAME, _attend)


class TransformersForward:
    """Runs steps through the model's own forward."""

    name = "transformers"

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache_argument = cache_argument(model)
        layers = model.config.get_text_config(decoder=True).num_hidden_layers
        self._cache = Cache(layers=[_CapturingLayer(number) for number in range(layers)])

    @torch.inference_mode()
    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        """Run a step with the keys and values of `store`: logits [drawn, vocab] in the model's dtype."""
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
    config = model.config.get_text_config(decoder=True)
    own = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
