"""Attention of one new token of each row over the row's own pages, for cases without a compiled kernel.

It uses `embedding_bag`, a weighted sum of table rows:

    score of 64 tokens   = sum over the key's width of   query[i] x (row i of a page's transposed keys)
    output               = sum over the tokens of        probability x value

On a CPU this is the fastest operation of torch for one query and many keys: matrix products are made for many queries and
take twice as long. It reads the pages in place, and a row's result does not depend on the other rows.

`embedding_bag` would round sums of 16 bits, scores among them, and on other devices each bag is a pass over its rows: there
pages are copied to float32, for some rows at a time, and multiplied. This was never run on a GPU, where
`torch.nn.attention.varlen` may be faster.
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
        pages: int64 [rows, pages of the longest].
    """

    key_rows: Tensor
    key_bags: Tensor
    value_rows: Tensor
    value_bags: Tensor
    hidden: Tensor
    pages: Tensor


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
        group.pages,
    )


def attend_pages(q: Tensor, pages: KVLayer, plan: AttentionPlan, rule: AttentionRule) -> Tensor:
    """Attention of q [rows, heads, key width]: [rows, heads, value width]."""
    return _weighted(pages, plan, _scores(q, pages, plan, rule).softmax(-1)).to(q.dtype)


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
    if _copied(pages.keys):
        _, kv_heads, width, _ = pages.keys.shape
        grouped = (q.to(_wide(q)) * rule.scale).view(len(q), 1, kv_heads, -1, width)
        each = grouped.new_empty(len(q), used, kv_heads, q.shape[1] // kv_heads, size)
        for rows in _cuts(plan, kv_heads * width * size):
            torch.matmul(grouped[rows], pages.keys[plan.pages[rows]].to(each.dtype), out=each[rows])
        scores = each.permute(0, 2, 3, 1, 4).reshape(*q.shape[:2], -1)
        return rule.capped(scores).masked_fill_(plan.hidden, -torch.inf)
    queries = (q * rule.scale)[:, :, None].expand(-1, -1, used, -1)
    scores = functional.embedding_bag(
        plan.key_rows,
        pages.keys.view(-1, size),
        plan.key_bags,
        mode="sum",
        per_sample_weights=queries.flatten(),
    )
    return rule.capped(scores.view(*q.shape[:2], -1)).masked_fill_(plan.hidden, -torch.inf)


_COPIED = 2**26
"""Most numbers of pages copied at a time, unless a single row has more: 256 MiB in float32."""


def _copied(pages: Tensor) -> bool:
    """Whether pages are copied for products, since `embedding_bag` is less exact or slower."""
    return pages.device.type != "cpu" or _wide(pages) != pages.dtype


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _cuts(plan: AttentionPlan, page_numbers: int) -> list[slice]:
    """The rows whose pages are copied together."""
    rows, used = plan.pages.shape
    most = max(1, _COPIED // (used * page_numbers))
    return [slice(first, first + most) for first in range(0, rows, most)]


def _weighted(pages: KVLayer, plan: AttentionPlan, weights: Tensor) -> Tensor:
    """Values weighted by [rows, heads, slots]."""
    if _copied(pages.values):
        _, kv_heads, size, high = pages.values.shape
        shares = weights.view(len(weights), kv_heads, -1, plan.pages.shape[1], size)
        shares = shares.permute(0, 3, 1, 2, 4)
        out = weights.new_empty(*weights.shape[:2], high)
        for rows in _cuts(plan, kv_heads * high * size):
            copied = pages.values[plan.pages[rows]].to(weights.dtype)
            out[rows] = (shares[rows] @ copied).sum(1).flatten(1, 2)
        return out
    out = functional.embedding_bag(
        plan.value_rows,
        pages.values.view(-1, pages.values.shape[-1]),
        plan.value_bags,
        mode="sum",
        per_sample_weights=weights.flatten(),
    )
    return out.view(*weights.shape[:2], -1)
