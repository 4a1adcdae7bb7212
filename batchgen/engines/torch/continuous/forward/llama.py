"""Our own forward for the Llama family: the model's weights, fewer and larger operations.

    transformers, a layer and step: about 45 operations        here: about 12
    q, k, v                         three products             one
    rotary                          six operations             one complex product, in place
    norms, attention                a dozen operations         one kernel each, if `kernel_dispatch.py` has them
    residual, SiLU, gate times up   separate operations        done while the product's result is in cache

Rotary embedding: rotating the pair (x[i], x[i + half]) is a complex product. The rows of the q and k weights are reordered
so that pairs are adjacent; scores do not change, since both sides have the same order.

`LlamaForward.of` returns None for models with another structure; the parity probe decides for the others.
"""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from batchgen.engines.torch.continuous.forward.attention import AttentionRule, LayerQkv
from batchgen.engines.torch.continuous.forward.kernel_dispatch import (
    CompiledNorm,
    attention_works,
    kernel_supports_norm,
)
from batchgen.engines.torch.continuous.forward.linear import (
    Linear,
    MakeLinear,
    PackedLinear,
    PlainLinear,
    should_pack_weights,
)
from batchgen.engines.torch.continuous.forward.step_attention import StepAttention
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.memory import weight_bytes

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class _Heads:
    queries: int
    keys: int
    width: int


class _Norm(Protocol):
    def __call__(self, x: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class _PlainNorm:
    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class _LlamaLayer:
    before_attention: _Norm
    qkv: Linear
    q_norm: _Norm | None
    k_norm: _Norm | None
    out: Linear
    before_mlp: _Norm
    gate: Linear
    up: Linear
    down: Linear
    rule: AttentionRule


class LlamaForward:
    """Runs steps with a Llama-like model's weights."""

    name = "llama"

    def __init__(self, model: PreTrainedModel, make: MakeLinear) -> None:
        """Use the weights of a model that `is_supported`; `make` creates its products."""
        inner: Any = model.model
        self._embed: nn.Module = inner.embed_tokens
        self._rotary = inner.rotary_emb
        config = model.config
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self._heads = _Heads(config.num_attention_heads, config.num_key_value_heads, width)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._layers = [self._layer(layer, make) for layer in inner.layers]
        self._norm = _norm(inner.norm)
        if kernel_supports_norm(inner.norm.weight):
            # Compiled, or read from disk, before worker processes are forked.
            attention_works(self._heads.queries // self._heads.keys, width, width)
        head: Any = model.get_output_embeddings()
        self._head = make(head.weight.detach(), head.bias)

    @classmethod
    def of(cls, model: PreTrainedModel, packable: int) -> Self | None:
        """This forward for a decoder, or None if it is not supported. `packable`: most bytes of packed weights."""
        if not is_supported(model.config):
            return None
        packed = should_pack_weights(weight_bytes(model), model.device, model.dtype, packable)
        return cls(model, PackedLinear if packed else PlainLinear)

    @torch.inference_mode()
    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        """Run a step with the keys and values of `store`: logits [drawn, vocab] in the model's dtype."""
        attend = StepAttention(batch, store)
        x: Tensor = self._embed(batch.token_ids)
        cos, sin = self._rotary(x, batch.positions[None])
        half = self._heads.width // 2
        turn = torch.complex(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())[:, None]
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            attended = attend(self._fresh(number, x, turn)).reshape(len(x), -1)
            if number == last and len(batch.drawn) < len(x):
                # After the last keys and values, only tokens with needed logits are computed.
                if len(batch.drawn) == 0:
                    return x.new_zeros(0, self._head.outputs)
                attended, x = attended[batch.drawn], x[batch.drawn]
            x = layer.out.add(attended, x)
            normed = layer.before_mlp(x)
            x = layer.down.add(layer.up.multiply(normed, layer.gate.silu(normed)), x)
        return self._head(self._norm(x))

    def _fresh(self, number: int, x: Tensor, turn: Tensor) -> LayerQkv:
        layer, heads = self._layers[number], self._heads
        qkv = layer.qkv(layer.before_attention(x)).view(len(x), -1, heads.width)
        turned = heads.queries + heads.keys
        if layer.q_norm is not None and layer.k_norm is not None:
            qkv[:, : heads.queries] = layer.q_norm(qkv[:, : heads.queries])
            qkv[:, heads.queries : turned] = layer.k_norm(qkv[:, heads.queries : turned])
        pairs = torch.view_as_complex(qkv.view(*qkv.shape[:2], -1, 2))
        pairs[:, :turned] *= turn
        q, k, v = qkv.split([heads.queries, heads.keys, heads.keys], dim=1)
        return LayerQkv(number, q, k, v, layer.rule)

    def _layer(self, layer: nn.Module, make: MakeLinear) -> _LlamaLayer:
        parts: Any = layer
        attn, mlp, heads = parts.self_attn, parts.mlp, self._heads
        # Makes i and i + half adjacent: 0, half, 1, half + 1, ...
        order = torch.arange(heads.width).view(2, -1).t().flatten()
        q_norm, k_norm = getattr(attn, "q_norm", None), getattr(attn, "k_norm", None)

        def linear(module: nn.Linear) -> Linear:
            # The bias may be None, although it is annotated as a tensor.
            bias: Tensor | None = getattr(module, "bias", None)
            return make(module.weight.detach(), None if bias is None else bias.detach())

        turned = [(attn.q_proj, heads.queries), (attn.k_proj, heads.keys)]
        weights = [_reordered(m.weight, count, order) for m, count in turned]
        biases = None
        if attn.q_proj.bias is not None:
            reordered = [_reordered(m.bias, count, order) for m, count in turned]
            biases = torch.cat([*reordered, attn.v_proj.bias.detach()])
        return _LlamaLayer(
            _norm(parts.input_layernorm),
            make(torch.cat([*weights, attn.v_proj.weight.detach()]), biases),
            None if q_norm is None else _head_norm(q_norm, order),
            None if k_norm is None else _head_norm(k_norm, order),
            linear(attn.o_proj),
            _norm(parts.post_attention_layernorm),
            linear(mlp.gate_proj),
            linear(mlp.up_proj),
            linear(mlp.down_proj),
            AttentionRule(attn.scaling, getattr(attn, "sliding_window", self._window)),
        )


def is_supported(config: PreTrainedConfig) -> bool:
    """Whether a model has the structure that this forward implements."""
    return config.model_type in MODEL_TYPES and config.hidden_act == "silu"


def _norm(module: nn.Module) -> _Norm:
    norm: Any = module
    weight = norm.weight.detach()
    make = CompiledNorm if kernel_supports_norm(weight) else _PlainNorm
    return make(weight, norm.variance_epsilon)


def _head_norm(module: nn.Module, order: Tensor) -> _Norm:
    norm: Any = module
    return _PlainNorm(norm.weight.detach()[order], norm.variance_epsilon)


def _reordered(tensor: Tensor, heads: int, order: Tensor) -> Tensor:
    """A weight or bias with `heads` times `width` rows, reordered within each head."""
    parts = tensor.detach().view(heads, len(order), *tensor.shape[1:])
    return parts[:, order].flatten(0, 1)
