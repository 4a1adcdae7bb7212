"""Attention of one new token of each row over the row's own pages, for cases without a compiled kernel.

It uses `embedding_bag`, a weighted sum of table rows:

    score of 64 tokens   = sum over the key's width of   query[i] x (row i of a page's transposed keys)
    output               = sum over the tokens of        probability x value

On a CPU this is the fastest operation of torch for one query and many keys: matrix products are made for many queries and
take twice as long. It reads the pages in place, and a row's result does not depend on the other rows. On a GPU
`torch.nn.attention.varlen` should replace it; this was never run on one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.attention import AttentionRule, PartialAttention
from batchgen.engines.torch.continuous.kv_store import KVLayer
from batchgen.engines.torch.continuous.step import DecodeGroup


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """Indices of a group's keys and values for one shape of heads; the same in every such layer.

    Attributes:
        key_rows: int32, rows of the table of transposed keys: a bag of `key width` for each (row, head, page).
        key_bags: int32, start of each bag.
        value_rows: int32, rows of the table of values: a bag for each (row, head).
        value_bags: int32, start of each bag.
        hidden: bool [rows, 1, slots]: beyond the row's length, or outside its window.
    """

    key_rows: Tensor
    key_bags: Tensor
    value_rows: Tensor
    value_bags: Tensor
    hidden: Tensor


def attention_plan(
    group: DecodeGroup, pages: KVLayer, heads: int, window: int | None
) -> AttentionPlan:
    """The plan of a group, computed at its first use."""
    kv_heads, width, size = pages.keys.shape[1:]
    key = (heads, kv_heads, width, window)
    plan = group.plans.get(key)
    if not isinstance(plan, AttentionPlan):
        plan = group.plans[key] = _plan(group, (heads, kv_heads, width, size), window)
    return plan


def _plan(
    group: DecodeGroup, shape: tuple[int, int, int, int], window: int | None
) -> AttentionPlan:
    heads, kv_heads, width, size = shape
    device = group.pages.device

    def count(end: int, step: int = 1) -> Tensor:
        return torch.arange(0, end * step, step, device=device, dtype=torch.int32)

    rows, used = group.pages.shape
    kv_head = torch.arange(heads, device=device) // (heads // kv_heads)
    blocks = (group.pages[:, None] * kv_heads + kv_head[:, None]).int()[..., None]
    positions = torch.arange(used * size, device=device)
    lengths = group.lengths[:, None]
    hidden = positions >= lengths
    if window is not None:
        hidden |= positions < lengths - window
    return AttentionPlan(
        (blocks * width + count(width)).flatten(),
        count(rows * heads * used, width),
        (blocks * size + count(size)).flatten(),
        count(rows * heads, used * size),
        hidden[:, None],
    )


def attend_pages(q: Tensor, pages: KVLayer, plan: AttentionPlan, rule: AttentionRule) -> Tensor:
    """Attention of q [rows, heads, key width]: [rows, heads, value width]."""
    return _weighted(pages, plan, _scores(q, pages, plan, rule).softmax(-1))


def attend_pages_partial(
    q: Tensor, pages: KVLayer, plan: AttentionPlan, rule: AttentionRule
) -> PartialAttention:
    """The same, for merging with attention to a prefix."""
    scores = _scores(q, pages, plan, rule)
    highest = scores.amax(-1, keepdim=True)
    weights = scores.sub_(highest).exp_()
    total = weights.sum(-1, keepdim=True)
    values = _weighted(pages, plan, weights).div_(total)
    return PartialAttention(values, total.log().add_(highest)[..., 0])


def _scores(q: Tensor, pages: KVLayer, plan: AttentionPlan, rule: AttentionRule) -> Tensor:
    """Scores, -inf at hidden slots: [rows, heads, slots]."""
    size = pages.keys.shape[-1]
    used = plan.hidden.shape[-1] // size
    queries = (q * rule.scale)[:, :, None].expand(-1, -1, used, -1)
    scores = functional.embedding_bag(
        plan.key_rows,
        pages.keys.view(-1, size),
        plan.key_bags,
        mode="sum",
        per_sample_weights=queries.flatten(),
    )
    return rule.capped(scores.view(*q.shape[:2], -1)).masked_fill_(plan.hidden, -torch.inf)


def _weighted(pages: KVLayer, plan: AttentionPlan, weights: Tensor) -> Tensor:
    """Values weighted by [rows, heads, slots]."""
    out = functional.embedding_bag(
        plan.value_rows,
        pages.values.view(-1, pages.values.shape[-1]),
        plan.value_bags,
        mode="sum",
        per_sample_weights=weights.flatten(),
    )
    return out.view(*weights.shape[:2], -1)
