"""FLOPs per token of a model, and the number of tokens computed.

    FLOPs per token     from the shapes of the weights and the config; formula in `planning/required_flops.py`
    tokens computed     counted at the input embeddings

`peak.py` measures the machine's peak, `meter.py` computes the ratio.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from batchgen.planning.required_flops import AttentionFlops, ModelFlops

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")
_WITHOUT_KEYS = ("conv", "linear_attention", "mamba", "moe", "recurrent")
"""Layer types without attention, in the terms of `config.layer_types`."""


class TokenCounter:
    """Counts the tokens that a model computes, including padding and repeats."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.tokens = 0
        embeddings: nn.Module = model.get_input_embeddings()
        embeddings.register_forward_pre_hook(self._count)

    def _count(self, _module: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.tokens += sum(one.numel() for one in arguments if isinstance(one, Tensor))


def model_flops(model: PreTrainedModel) -> ModelFlops | None:
    """The FLOPs of a decoder model; None for one with an encoder, whose tokens have two different costs."""
    if model.config.is_encoder_decoder:
        return None
    config = model.config.get_text_config(decoder=True)
    head: nn.Module | None = model.get_output_embeddings()
    drawn = 0
    # Embeddings of tokens and positions are only looked up.
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    outside = {id(weight) for m in embeddings for weight in m.parameters(recurse=False)}
    if head is not None:
        drawn = sum(weight.numel() for weight in head.parameters() if weight.dim() == 2)
        outside |= {id(weight) for weight in head.parameters()}
    inner = sum(
        weight.numel() * _chosen_share(name, config)
        for name, weight in model.named_parameters()
        if weight.dim() >= 2 and id(weight) not in outside
    )
    return ModelFlops(2.0 * inner, 2.0 * drawn, _attention(config))


def _chosen_share(name: str, config: PreTrainedConfig) -> float:
    """Share of a weight that a token uses: that of the chosen experts."""
    if "experts" not in name or "shared" in name:
        return 1.0
    experts, chosen = _first(config, _EXPERTS), _first(config, _CHOSEN)
    return chosen / experts if chosen and experts else 1.0


def _attention(config: PreTrainedConfig) -> tuple[AttentionFlops, ...]:
    heads: int | None = getattr(config, "num_attention_heads", None)
    if heads is None:
        return ()
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    # Keys and values have equal widths, except in multi-head latent attention (DeepSeek).
    key = getattr(config, "qk_head_dim", None) or width
    value = getattr(config, "v_head_dim", None) or width
    windows = Counter(_windows(config))
    return tuple(
        AttentionFlops(2.0 * heads * (key + value) * layers, window)
        for window, layers in windows.items()
    )


def _windows(config: PreTrainedConfig) -> Iterator[int | None]:
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["sliding_attention"] * config.num_hidden_layers
    for kind in kinds:
        if kind not in _WITHOUT_KEYS:
            yield window if "sliding" in kind else None


def _first(config: PreTrainedConfig, names: tuple[str, ...]) -> int | None:
    return next((found for name in names if (found := getattr(config, name, None))), None)
