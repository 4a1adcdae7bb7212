"""Attention over keys in one piece, and how attention over several pieces becomes one.

A `PartialAttention` is attention over some of the keys, with the log of the sum of exponentials of the scores. Two parts over
different keys merge into the part over both:

    share   = sigmoid(mass b - mass a)
    values  = (1 - share) a + share b          mass = log(exp(mass a) + exp(mass b))

Plain layers on a CPU use torch's fused kernel; soft caps, windows and other devices have it written out. Knows nothing of
pages, prefixes or models.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """How a layer attends.

    Attributes:
        scale: of the scores.
        window: each token sees so many tokens, itself included; None sees all.
        softcap: scores are squeezed into +-softcap by tanh.
        sinks: [heads], a logit that takes probability and gives nothing.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def plain(self) -> bool:
        """Whether the fused kernels know this rule."""
        return self.window is None and self.softcap is None

    def capped(self, scores: Tensor) -> Tensor:
        """Scores after the soft cap; may change them in place."""
        if self.softcap is None:
            return scores
        return scores.div_(self.softcap).tanh_().mul_(self.softcap)


@dataclass(frozen=True, slots=True)
class AttendedKeys:
    """Keys that are looked at.

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

    def cut(self, first: int, last: int) -> "PartialAttention":
        """The same of some tokens, as views."""
        return PartialAttention(self.values[first:last], self.mass[first:last])

    def merge(self, other: "PartialAttention") -> None:
        """Add attention over further keys, in place."""
        share = torch.sigmoid(other.mass - self.mass)[..., None]
        self.values.lerp_(other.values, share.to(self.values.dtype))
        torch.logaddexp(self.mass, other.mass, out=self.mass)

    def sink(self, sinks: Tensor) -> None:
        """Give part of the probability away: [heads] logits."""
        kept = torch.sigmoid(self.mass - sinks.to(self.mass))[..., None]
        self.values *= kept.to(self.values.dtype)


def causal_attention(q: Tensor, seen: AttendedKeys, rule: AttentionRule) -> PartialAttention:
    """Each token of q [tokens, heads, width] looks at itself and the tokens before it: `seen` is of the same tokens."""
    if rule.plain and _fused(q, seen):
        return _flash(q, seen, rule.scale, causal=True)
    order = seen.positions
    return _explicit(q, seen, rule, _allowed(order, order, rule) & (order[:, None] >= order))


def past_attention(
    q: Tensor, seen: AttendedKeys, rule: AttentionRule, positions: Tensor
) -> PartialAttention:
    """Tokens of q [tokens, heads, width] at `positions` look at earlier keys, all that the window allows."""
    if rule.plain and _fused(q, seen):
        return _flash(q, seen, rule.scale, causal=False)
    return _explicit(q, seen, rule, _allowed(positions, seen.positions, rule))


def _fused(q: Tensor, seen: AttendedKeys) -> bool:
    return q.device.type == "cpu" and q.shape[-1] == seen.values.shape[-1]


def _flash(q: Tensor, seen: AttendedKeys, scale: float, *, causal: bool) -> PartialAttention:
    """The CPU's fused attention. It wants the last dimension contiguous, and says nothing if it is not."""
    out, mass = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q.transpose(0, 1)[None], seen.keys[None], seen.values[None], 0.0, causal, scale=scale
    )
    return PartialAttention(out[0].transpose(0, 1), mass[0].transpose(0, 1))


def _explicit(
    q: Tensor, seen: AttendedKeys, rule: AttentionRule, allowed: Tensor
) -> PartialAttention:
    """Attention written out; allowed bool [tokens, seen]."""
    tokens, heads, width = q.shape
    kv_heads, count, _ = seen.keys.shape
    grouped = q.transpose(0, 1).reshape(kv_heads, -1, width)
    scores = (grouped @ seen.keys.transpose(1, 2)).view(kv_heads, -1, tokens, count)
    scores = rule.capped(scores * rule.scale).masked_fill_(~allowed, -torch.inf)
    mass = scores.logsumexp(-1)
    # A window may hide every key from a token: no mass, and weights of 0 instead of NaN.
    weights = (scores - mass.clamp(min=torch.finfo(mass.dtype).min)[..., None]).exp_()
    out = weights.view(kv_heads, -1, count) @ seen.values
    return PartialAttention(
        out.view(heads, tokens, -1).transpose(0, 1), mass.view(heads, tokens).transpose(0, 1)
    )


def _allowed(positions: Tensor, seen: Tensor, rule: AttentionRule) -> Tensor:
    if rule.window is None:
        return torch.ones(len(positions), len(seen), dtype=torch.bool, device=seen.device)
    return seen[None] > positions[:, None] - rule.window
