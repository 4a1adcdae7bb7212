"""Attention over one piece of keys, and the merging of several pieces.

A `PartialAttention` is attention over some of the keys, with the log of the sum of exponentials of the scores. Two of them
over different keys merge into one over both:

    share   = sigmoid(mass b - mass a)
    values  = (1 - share) a + share b          mass = log(exp(mass a) + exp(mass b))

Plain layers on a CPU use torch's fused kernel; soft caps, windows and other devices use separate operations, for some queries
at a time, so that the scores of a long prompt fit. Queries, keys and values may have 16 bits: separate operations compute them
in float32, and the fused kernel too where the processor has no products of bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products

_SCORES = 2**25
"""Most scores computed at a time by separate operations, unless a single query has more: 128 MiB in float32."""


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """Parameters of a layer's attention.

    Attributes:
        scale: of the scores.
        window: number of tokens that each token attends to, including itself; None for all.
        softcap: scores are limited to +-softcap by tanh.
        sinks: [heads], logits that take probability without a value.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def plain(self) -> bool:
        return self.window is None and self.softcap is None

    def capped(self, scores: Tensor) -> Tensor:
        """Scores after the soft cap; may change them in place."""
        if self.softcap is None:
            return scores
        return scores.div_(self.softcap).tanh_().mul_(self.softcap)


@dataclass(frozen=True, slots=True)
class LayerQkv:
    """Queries, keys and values of a layer for the tokens of a step.

    Attributes:
        q: [tokens, heads, key width].
        k: [tokens, kv heads, key width].
        v: [tokens, kv heads, value width].
    """

    layer: int
    q: Tensor
    k: Tensor
    v: Tensor
    rule: AttentionRule


@dataclass(frozen=True, slots=True)
class AttendedKeys:
    """Keys and values to attend to.

    Attributes:
        keys: [kv heads, seen, key width].
        values: [kv heads, seen, value width].
        positions: int64 [seen].
    """

    keys: Tensor
    values: Tensor
    positions: Tensor


@dataclass(slots=True)
class PartialAttention:
    """Attention over some of the keys.

    Attributes:
        values: [tokens, heads, value width].
        mass: [tokens, heads], log of the sum of exponentials of the scores.
    """

    values: Tensor
    mass: Tensor

    @classmethod
    def concatenate(cls, parts: Sequence["PartialAttention"]) -> "PartialAttention":
        """Attention of all tokens, from that of consecutive ones."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([p.values for p in parts]), torch.cat([p.mass for p in parts]))

    def cut(self, first: int, last: int) -> "PartialAttention":
        return PartialAttention(self.values[first:last], self.mass[first:last])

    def mergeable(self) -> "PartialAttention":
        """The same with values in float32 at least."""
        wide = torch.promote_types(self.values.dtype, torch.float32)
        return PartialAttention(self.values.to(wide), self.mass)

    def merge(self, other: "PartialAttention") -> None:
        """Merge attention over other keys, in place; this one is `mergeable`."""
        share = torch.sigmoid(other.mass - self.mass)[..., None]
        self.values.lerp_(other.values.to(self.values.dtype), share.to(self.values.dtype))
        torch.logaddexp(self.mass, other.mass, out=self.mass)

    def sink(self, sinks: Tensor) -> None:
        kept = torch.sigmoid(self.mass - sinks.to(self.mass))[..., None]
        self.values *= kept.to(self.values.dtype)


def causal_attention(q: Tensor, seen: AttendedKeys, rule: AttentionRule) -> PartialAttention:
    """Causal attention of q [tokens, heads, width] to the same tokens in `seen`."""
    if rule.plain and _fused(q, seen):
        return _flash(q, seen, rule.scale, causal=True)
    return _explicit(q, seen, rule, seen.positions, causal=True)


def past_attention(
    q: Tensor, seen: AttendedKeys, rule: AttentionRule, positions: Tensor
) -> PartialAttention:
    """Attention of q [tokens, heads, width] at `positions` to earlier keys within the window."""
    if rule.plain and _fused(q, seen):
        return _flash(q, seen, rule.scale, causal=False)
    return _explicit(q, seen, rule, positions, causal=False)


def _fused(q: Tensor, seen: AttendedKeys) -> bool:
    return q.device.type == "cpu" and q.shape[-1] == seen.values.shape[-1]


def _flash(q: Tensor, seen: AttendedKeys, scale: float, *, causal: bool) -> PartialAttention:
    """The CPU's fused attention. It requires a contiguous last dimension without checking it."""
    inputs = [q.transpose(0, 1)[None], seen.keys[None], seen.values[None]]
    if q.dtype == torch.bfloat16 and not has_bfloat16_products():
        # Twice as fast.
        inputs = [tensor.float() for tensor in inputs]
    out, mass = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        *inputs, 0.0, causal, scale=scale
    )
    return PartialAttention(out[0].transpose(0, 1), mass[0].transpose(0, 1))


def _explicit(
    q: Tensor, seen: AttendedKeys, rule: AttentionRule, positions: Tensor, *, causal: bool
) -> PartialAttention:
    wide = torch.promote_types(q.dtype, torch.float32)
    seen = AttendedKeys(seen.keys.to(wide), seen.values.to(wide), seen.positions)
    most = max(1, _SCORES // max(1, q.shape[1] * len(seen.positions)))
    return PartialAttention.concatenate(
        [
            _attended(part.to(wide), seen, rule, _allowed(at, seen.positions, rule, causal=causal))
            for part, at in zip(q.split(most), positions.split(most), strict=True)
        ]
    )


def _attended(
    q: Tensor, seen: AttendedKeys, rule: AttentionRule, allowed: Tensor
) -> PartialAttention:
    tokens, heads, width = q.shape
    kv_heads, count, _ = seen.keys.shape
    grouped = q.transpose(0, 1).reshape(kv_heads, -1, width)
    scores = (grouped @ seen.keys.transpose(1, 2)).view(kv_heads, -1, tokens, count)
    scores = rule.capped(scores * rule.scale).masked_fill_(~allowed, -torch.inf)
    mass = scores.logsumexp(-1)
    # A window may exclude all keys of a token: then mass is -inf and weights are 0, not NaN.
    weights = (scores - mass.clamp(min=torch.finfo(mass.dtype).min)[..., None]).exp_()
    out = weights.view(kv_heads, -1, count) @ seen.values
    return PartialAttention(
        out.view(heads, tokens, -1).transpose(0, 1), mass.view(heads, tokens).transpose(0, 1)
    )


def _allowed(positions: Tensor, seen: Tensor, rule: AttentionRule, *, causal: bool) -> Tensor:
    allowed = torch.ones(len(positions), len(seen), dtype=torch.bool, device=seen.device)
    if causal:
        allowed &= positions[:, None] >= seen
    if rule.window is not None:
        allowed &= seen[None] > positions[:, None] - rule.window
    return allowed
