"""Our own forward for the Llama family: the model's weights, fewer and larger operations.

    transformers, a layer and step: about 45 operations        here: about 12
    q, k, v                         three products             one
    rotary                          six operations             one complex product, in place
    norms, attention                a dozen operations         one kernel each, if `kernel_dispatch.py` has them
    residual, SiLU, gate times up   separate operations        done while the product's result is in cache

Rotary embedding: rotating the pair (x[i], x[i + half]) is a complex product. The rows of the q and k weights are reordered
so that pairs are adjacent; scores do not change, since both sides have the same order.

With weights of 16 bits, products take and give these; the residual stream, norms, rotary embedding and softmax are in
float32, and each result is rounded once.

`LlamaForward.of` returns None for models with another structure; the parity probe decides for the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

from batchgen.engines.torch.continuous.forward.attention import AttentionRule, LayerQkv
from batchgen.engines.torch.continuous.forward.compiled_layers import (
    CompiledLayers,
    LayerShape,
    compile_layers,
)
from batchgen.engines.torch.continuous.forward.kernel_check import kernels_suit
from batchgen.engines.torch.continuous.forward.kernel_dispatch import attention_works
from batchgen.engines.torch.continuous.forward.products.linear import (
    GroupedLinear,
    Linear,
    MakeLinear,
    PlainLinear,
    choose_packing,
    gated,
    linear_for,
    link_compiled,
)
from batchgen.engines.torch.continuous.forward.row_kernels import (
    CompiledNorm,
    CompiledTurn,
    ComplexTurn,
    TorchTurn,
    kernel_supports_norm,
    turn_works,
)
from batchgen.engines.torch.continuous.forward.step_attention import StepAttention
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.row_counts import ProductRows
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.memory import weight_bytes
from batchgen.engines.torch.weights.weight_release import WeightRelease
from batchgen.planning.kv_cache_plan import PAGE_TOKENS

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
    dtype: torch.dtype

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.eps).to(self.dtype)


class _Turn(Protocol):
    """Norms and rotary embedding, by complex [tokens, width / 2], of the queries and keys of heads [tokens, heads, width], in place."""

    def __call__(self, heads: Tensor, waves: Tensor, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _LlamaLayer:
    before_attention: _Norm
    qkv: Linear
    turn: _Turn
    out: Linear
    before_mlp: _Norm
    gate: Linear
    up: Linear
    down: Linear
    rule: AttentionRule


class LlamaForward:
    """Runs steps with a Llama-like model's weights."""

    name = "llama"

    def __init__(
        self, model: PreTrainedModel, make: MakeLinear, release: WeightRelease | None = None
    ) -> None:
        """Use the weights of a model that `is_supported`; `make` creates its products, which `release` frees."""
        inner: Any = model.model
        self._embed: nn.Module = inner.embed_tokens
        self._rotary = inner.rotary_emb
        config = model.config
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self._heads = _Heads(config.num_attention_heads, config.num_key_value_heads, width)
        self._dtype = model.dtype
        attended = config.num_attention_heads * width
        self._widths = (config.hidden_size, attended, config.intermediate_size)
        self._residual_dtype = _wide(model.dtype)
        self._window: int | None = getattr(config, "sliding_window", None)
        self._counts: ProductRows | None = None
        # First: its packed copy is the largest, and all other weights are still narrow.
        head: Any = model.get_output_embeddings()
        self._head: Linear = make(head.weight.detach(), head.bias)
        copied = make is not PlainLinear
        if release is not None and copied:
            release.release(head)
        self._layers = []
        for layer in inner.layers:
            self._layers.append(self._layer(layer, make))
            if release is not None:
                release.release(*_copied_products(layer, all_of_them=copied))
        products = [(one.qkv, one.out, one.gate, one.up, one.down) for one in self._layers]
        link_compiled([*sum(products, ()), self._head])
        self._norm = _norm(inner.norm)
        if kernel_supports_norm(inner.norm.weight):
            # Compiled, or read from disk, before worker processes are forked.
            attention_works(
                self._heads.queries // self._heads.keys, (width, width, PAGE_TOKENS), model.dtype
            )
        heads = self._heads
        shape = LayerShape(
            config.hidden_size, width, heads.queries, heads.keys, config.intermediate_size
        )
        self._compiled: CompiledLayers | None = compile_layers(
            self._layers, self._norm, self._head, shape
        )

    def products(self) -> list[tuple[Callable[[Tensor], Tensor], int]]:
        """One product of each shape and kind, and the width of its input; `use_row_counts` was not called."""
        layer, (hidden, attended, inner) = self._layers[0], self._widths

        def added(linear: Linear) -> Callable[[Tensor], Tensor]:
            return lambda x: linear.add(x, torch.zeros(len(x), hidden))

        return [
            (layer.qkv, hidden),
            (added(layer.out), attended),
            (lambda x: gated(layer.gate, layer.up, x), hidden),
            (added(layer.down), inner),
            (self._head.logits, hidden),
        ]

    def use_row_counts(self, counts: ProductRows) -> None:
        """Compute all products at these counts of rows only, so that a row's bits do not depend on the batch."""
        self._counts, self._compiled = counts, None
        self._head = GroupedLinear(self._head, counts)
        self._layers = [
            replace(
                layer,
                qkv=GroupedLinear(layer.qkv, counts),
                out=GroupedLinear(layer.out, counts),
                gate=GroupedLinear(layer.gate, counts),
                up=GroupedLinear(layer.up, counts),
                down=GroupedLinear(layer.down, counts),
            )
            for layer in self._layers
        ]

    @classmethod
    def of(
        cls, model: PreTrainedModel, packable: int, release: WeightRelease | None = None
    ) -> Self | None:
        """This forward for a decoder, or None if it is not supported.

        Args:
            model: the decoder.
            packable: most bytes of packed weights.
            release: frees each weight that is packed; None keeps them.
        """
        if not is_supported(model.config):
            return None
        packing = choose_packing(weight_bytes(model), model.device, model.dtype, packable)
        return cls(model, linear_for(model.dtype, packing), release)

    def _padded(self, x: Tensor) -> Tensor:
        """Rows followed by rows of padding, so that products are computed at the chosen counts."""
        missing = self._counts.padded(len(x)) - len(x) if self._counts else 0
        return functional.pad(x, (0, 0, 0, missing)) if missing else x

    @torch.inference_mode()
    def __call__(self, batch: StepBatch, store: KVStore) -> Tensor:
        """Run a step with the keys and values of `store`: logits [drawn, vocab], in float32 or the model's dtype."""
        x: Tensor = self._padded(self._embed(batch.token_ids).to(self._residual_dtype))
        half = self._heads.width // 2
        cos, sin = self._rotary(x, batch.positions[None])
        waves = torch.complex(cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous())
        if self._compiled is not None and self._compiled.suits(store):
            return self._compiled(x, waves, batch, store)
        attend, tokens = StepAttention(batch, store), len(batch.token_ids)
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            attended = attend(self._fresh(number, x, waves)).reshape(tokens, -1)
            if number == last and len(batch.drawn) < tokens:
                # After the last keys and values, only tokens with needed logits are computed.
                if len(batch.drawn) == 0:
                    return x.new_zeros(0, self._head.outputs)
                attended, x = attended[batch.drawn], self._padded(x[batch.drawn])
            x = layer.out.add(self._padded(attended), x)
            normed = layer.before_mlp(x)
            x = layer.down.add(gated(layer.gate, layer.up, normed), x)
        return self._head.logits(self._norm(x))[: len(batch.drawn)]

    def _fresh(self, number: int, x: Tensor, waves: Tensor) -> LayerQkv:
        layer, heads = self._layers[number], self._heads
        tokens = len(waves)
        qkv = layer.qkv(layer.before_attention(x))[:tokens].view(tokens, -1, heads.width)
        layer.turn(qkv, waves)
        q, k, v = qkv.split([heads.queries, heads.keys, heads.keys], dim=1)
        return LayerQkv(number, q, k, v, layer.rule)

    def _layer(self, layer: nn.Module, make: MakeLinear) -> _LlamaLayer:
        parts: Any = layer
        attn, mlp, heads = parts.self_attn, parts.mlp, self._heads
        # Makes i and i + half adjacent: 0, half, 1, half + 1, ...
        device = attn.q_proj.weight.device
        order = torch.arange(heads.width, device=device).view(2, -1).t().flatten()

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
            self._turn(attn, order),
            linear(attn.o_proj),
            _norm(parts.post_attention_layernorm),
            linear(mlp.gate_proj),
            linear(mlp.up_proj),
            linear(mlp.down_proj),
            AttentionRule(attn.scaling, getattr(attn, "sliding_window", self._window)),
        )

    def _turn(self, attention: Any, order: Tensor) -> _Turn:  # noqa: ANN401  (a module of any model)
        """Rotary embedding, after norms of each head where the layer has them."""
        heads = self._heads
        turned = heads.queries + heads.keys
        norms = [getattr(attention, name, None) for name in ("q_norm", "k_norm")]
        if self._dtype == self._residual_dtype:
            made = [None if norm is None else _head_norm(norm, order) for norm in norms]
            return ComplexTurn(heads.queries, turned, *made)
        normed, eps = None not in norms, 0.0
        weights = torch.ones(turned, heads.width, device=order.device)
        for norm, part in zip(norms, weights.split([heads.queries, heads.keys]), strict=True):
            if norm is not None:
                part[:] = norm.weight.detach()[order]
                eps = norm.variance_epsilon
        compiled = kernels_suit(attention.q_proj.weight) and turn_works(normed=normed)
        return (CompiledTurn if compiled else TorchTurn)(weights, eps, normed)


def _copied_products(layer: nn.Module, *, all_of_them: bool) -> tuple[nn.Module, ...]:
    """The products whose weights `_LlamaLayer` copies: plain ones only to join queries, keys and values."""
    parts: Any = layer
    attn, mlp = parts.self_attn, parts.mlp
    joined = (attn.q_proj, attn.k_proj, attn.v_proj)
    others = (attn.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
    return (*joined, *others) if all_of_them else joined


def is_supported(config: PreTrainedConfig) -> bool:
    """Whether a model has the structure that this forward implements."""
    return config.model_type in MODEL_TYPES and config.hidden_act == "silu"


def _norm(module: nn.Module) -> _Norm:
    """The norm before a product: of float32 if the weights have 16 bits, which it rounds to."""
    norm: Any = module
    weight, dtype = norm.weight.detach(), norm.weight.dtype
    make = CompiledNorm if kernel_supports_norm(weight) else _PlainNorm
    return make(weight.to(_wide(dtype)), norm.variance_epsilon, dtype)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _head_norm(module: nn.Module, order: Tensor) -> _Norm:
    norm: Any = module
    return _PlainNorm(norm.weight.detach()[order], norm.variance_epsilon, norm.weight.dtype)


def _reordered(tensor: Tensor, heads: int, order: Tensor) -> Tensor:
    """A weight or bias with `heads` times `width` rows, reordered within each head."""
    parts = tensor.detach().view(heads, len(order), *tensor.shape[1:])
    return parts[:, order].flatten(0, 1)
