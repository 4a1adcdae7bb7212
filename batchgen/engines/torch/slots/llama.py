"""The Llama family by our own forward: the model's weights, far fewer and larger operations.

    transformers, a layer and step: about 45 operations        here: about 20
    q, k, v                         three products             one
    rotary                          six operations             one complex product, in place
    residual, gate times up         operations of their own    done while the product's result is in cache

The rotary trick: turning the pair (x[i], x[i + half]) by an angle is a complex product. The rows of the q and k weights
are put in such an order that pairs are neighbours; scores do not notice, since both sides are in the same order.

Only for models that look like this inside, in every respect that is read here; `LlamaModel.of` returns None for others, and
the parity probe has the last word.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from batchgen.engines.torch.slots.attention import Attention, Rule
from batchgen.engines.torch.slots.linear import Linear, packing_works
from batchgen.engines.torch.slots.step import Batch
from batchgen.engines.torch.slots.store import Store

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class _Heads:
    queries: int
    keys: int
    width: int


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class _Layer:
    before_attention: _Norm
    qkv: Linear
    q_norm: _Norm | None
    k_norm: _Norm | None
    out: Linear
    before_mlp: _Norm
    gate: Linear
    up: Linear
    down: Linear
    rule: Rule


class LlamaModel:
    """Runs steps with a Llama-like model's weights."""

    name = "llama"

    def __init__(self, model: PreTrainedModel, store: Store) -> None:
        """Copy and pack the weights of a model that `suits`."""
        inner: Any = model.model
        packed = packing_works() and model.device.type == "cpu" and model.dtype == torch.float32
        self._store = store
        self._embed: Tensor = inner.embed_tokens.weight
        self._rotary = inner.rotary_emb
        config = model.config
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._heads = _Heads(config.num_attention_heads, config.num_key_value_heads, width)
        self._layers = [self._layer(layer, packed) for layer in inner.layers]
        self._norm = _norm(inner.norm)
        head: Any = model.get_output_embeddings()
        self._head = Linear(head.weight.detach(), head.bias, packed=packed)

    @classmethod
    def of(cls, model: PreTrainedModel, store: Store) -> Self | None:
        """The model by this forward, or None if it does not look like one that is known here."""
        return cls(model, store) if suits(model) else None

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Run a step: logits [drawn, vocab] in the model's dtype."""
        attention = Attention(batch, self._store)
        x = functional.embedding(batch.token_ids, self._embed)
        cos, sin = self._rotary(x, batch.positions[None])
        half = self._heads.width // 2
        turn = torch.complex(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())[:, None]
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            attended = self._attend(number, layer, attention, x, turn)
            if number == last and len(batch.drawn) < len(x):
                # Only tokens that draw need what comes after the last keys and values.
                attended, x = attended[batch.drawn], x[batch.drawn]
            x = layer.out.add(attended, x)
            normed = layer.before_mlp(x)
            gated = functional.silu(layer.gate(normed), inplace=True)
            x = layer.down.add(layer.up.multiply(normed, gated), x)
        return self._head(self._norm(x))

    def _attend(
        self, number: int, layer: _Layer, attention: Attention, x: Tensor, turn: Tensor
    ) -> Tensor:
        heads = self._heads
        qkv = layer.qkv(layer.before_attention(x)).view(len(x), -1, heads.width)
        turned = heads.queries + heads.keys
        if layer.q_norm is not None and layer.k_norm is not None:
            qkv[:, : heads.queries] = layer.q_norm(qkv[:, : heads.queries])
            qkv[:, heads.queries : turned] = layer.k_norm(qkv[:, heads.queries : turned])
        pairs = torch.view_as_complex(qkv.view(*qkv.shape[:2], -1, 2))
        pairs[:, :turned] *= turn
        q, k, v = qkv.split([heads.queries, heads.keys, heads.keys], dim=1)
        return attention(number, q, k, v, layer.rule).reshape(len(x), -1)

    def _layer(self, layer: Any, packed: bool) -> _Layer:  # noqa: ANN401
        attn, mlp = layer.self_attn, layer.mlp
        heads = self._heads
        order = _neighbours(heads.width)

        def rows(linear: nn.Linear, count: int, what: str) -> Tensor | None:
            tensor = getattr(linear, what)
            if tensor is None:
                return None
            return tensor.detach().view(count, heads.width, -1)[:, order].flatten(0, 1)

        weights = [
            rows(attn.q_proj, heads.queries, "weight"),
            rows(attn.k_proj, heads.keys, "weight"),
            attn.v_proj.weight.detach(),
        ]
        biases = None
        if attn.q_proj.bias is not None:
            parts = [rows(attn.q_proj, heads.queries, "bias"), rows(attn.k_proj, heads.keys, "bias")]
            biases = torch.cat([*(p.flatten() for p in parts if p is not None), attn.v_proj.bias])
        q_norm, k_norm = getattr(attn, "q_norm", None), getattr(attn, "k_norm", None)

        def linear(module: nn.Linear) -> Linear:
            bias = None if module.bias is None else module.bias.detach()
            return Linear(module.weight.detach(), bias, packed=packed)

        return _Layer(
            _norm(layer.input_layernorm),
            Linear(torch.cat([w for w in weights if w is not None]), biases, packed=packed),
            None if q_norm is None else _norm(q_norm, order),
            None if k_norm is None else _norm(k_norm, order),
            linear(attn.o_proj),
            _norm(layer.post_attention_layernorm),
            linear(mlp.gate_proj),
            linear(mlp.up_proj),
            linear(mlp.down_proj),
            Rule(attn.scaling, getattr(attn, "sliding_window", None)),
        )


def suits(model: PreTrainedModel) -> bool:
    """Whether a model has the parts that are read here, and no others that matter."""
    config = model.config
    return config.model_type in MODEL_TYPES and config.hidden_act == "silu"


def _norm(module: nn.Module, order: Tensor | None = None) -> _Norm:
    found: Any = module
    weight = found.weight.detach()
    return _Norm(weight if order is None else weight[order], found.variance_epsilon)


def _neighbours(width: int) -> Tensor:
    """The order that puts i and i + half beside each other: 0, half, 1, half + 1, ..."""
    return torch.arange(width).view(2, -1).t().flatten()
