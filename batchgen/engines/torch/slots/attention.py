"""Attention of one layer over a step: fresh tokens, pages, prefixes.

Every token's attention is a merge of parts, each with the log of its sum of exponentials:

    prefill   causal over the segment's own fresh tokens  +  its own past, read from pages  +  its prefix
    decode    its own pages, the fresh token among them                                     +  its prefix

A prefix is looked up by all its rows in one product, so its keys stream through memory once for all of them. Pages
are looked up by `embedding_bag`: a score is the sum of 64 rows of a page's transposed keys, weighted by the query; an
output is a sum of value rows, weighted by the probabilities. On a CPU that is the fastest kernel of torch for one query
against many keys (its matrix products are made for many queries), it needs no copy of the pages in order, and a
row's result does not depend on its neighbours. Knows nothing of models: heads and widths are read off the tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.slots.scheduler import Kind, Prefix
from batchgen.engines.torch.slots.step import Batch, Group, Piece, Reach
from batchgen.engines.torch.slots.store import LayerPages, PrefixLayer, Store


@dataclass(frozen=True, slots=True)
class Rule:
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


@dataclass(slots=True)
class Part:
    """Attention over some of the keys.

    Attributes:
        values: [tokens, heads, width].
        mass: [tokens, heads], log of the sum of exponentials of the scores.
    """

    values: Tensor
    mass: Tensor


class Attention:
    """Attention of all layers over one step. Made anew for each step."""

    def __init__(self, batch: Batch, store: Store) -> None:
        """Attend within `batch`, whose past is in `store`."""
        self._batch = batch
        self._store = store

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Tensor:
        """Store the new keys and values of a layer and attend.

        Args:
            layer: its number.
            q: [tokens, heads, key width].
            k: [tokens, kv heads, key width].
            v: [tokens, kv heads, value width].
            rule: of this layer.

        Returns:
            [tokens, heads, value width].
        """
        self.write(layer, k, v)
        return self.attend(layer, q, k, v, rule)

    def write(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store the new keys and values of a layer."""
        batch, store = self._batch, self._store
        fresh = batch.prefixed
        if fresh < len(k):
            store.layer(layer, k, v).write(k[fresh:], v[fresh:], batch.places)
        for piece in batch.pieces:
            if isinstance(piece.owner, Prefix):
                at = slice(piece.first, piece.last)
                store.prefix(piece.owner, layer, k, v).write(k[at], v[at], piece.past)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Tensor:
        """Attend, once the layer is written."""
        batch = self._batch
        if batch.kind is Kind.DECODE and not batch.reaches and rule.sinks is None:
            return self._decode_alone(layer, q, k, v, rule)
        if batch.kind is Kind.DECODE:
            parts = [
                _decode_part(self._store.layer(layer, k, v), group, q, rule, batch.positions)
                for group in batch.groups
            ]
        else:
            parts = [self._piece(layer, piece, q, k, v, rule) for piece in batch.pieces]
        whole = parts[0]
        if len(parts) > 1:
            whole = Part(
                torch.cat([part.values for part in parts]), torch.cat([part.mass for part in parts])
            )
        for reach in batch.reaches:
            self._reach(layer, reach, q, k, v, rule, whole)
        if rule.sinks is not None:
            whole.values *= torch.sigmoid(whole.mass - rule.sinks.to(whole.mass))[..., None].to(
                whole.values
            )
        return whole.values

    def _decode_alone(self, layer: int, q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Tensor:
        pages = self._store.layer(layer, k, v)
        parts = [_decode_values(pages, group, q, rule) for group in self._batch.groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _piece(
        self, layer: int, piece: Piece, q: Tensor, k: Tensor, v: Tensor, rule: Rule
    ) -> Part:
        at = slice(piece.first, piece.last)
        positions = self._batch.positions[at]
        part = causal(q[at], k[at], v[at], rule)
        if piece.past:
            if isinstance(piece.owner, Prefix):
                whole = self._store.prefix(piece.owner, layer, k, v)
                keys, values = whole.keys[:, :, : piece.past], whole.values[:, :, : piece.past]
                start = 0
            else:
                keys, values = self._store.layer(layer, k, v).read(piece.pages, piece.past)
                start = piece.owner.shared
            seen = torch.arange(start, start + piece.past, device=q.device)
            merge(part, past(q[at], keys, values, rule, positions, seen))
        return part

    def _reach(
        self, layer: int, reach: Reach, q: Tensor, k: Tensor, v: Tensor, rule: Rule, whole: Part
    ) -> None:
        at = slice(reach.first, reach.last)
        held: PrefixLayer = self._store.prefix(reach.prefix, layer, k, v)
        seen = torch.arange(held.keys.shape[2], device=q.device)
        positions = self._batch.positions[at]
        part = past(q[at], held.keys, held.values, rule, positions, seen)
        merge(Part(whole.values[at], whole.mass[at]), part)


def merge(into: Part, other: Part) -> None:
    """Add attention over further keys; `into` is changed in place."""
    share = torch.sigmoid(other.mass - into.mass)
    into.values.lerp_(other.values, share[..., None].to(into.values.dtype))
    torch.logaddexp(into.mass, other.mass, out=into.mass)


def causal(q: Tensor, k: Tensor, v: Tensor, rule: Rule) -> Part:
    """Each token looks at itself and the tokens before it. [tokens, heads, width] each."""
    if rule.plain and _fused(q, v):
        return _flash(q, k.transpose(0, 1)[None], v.transpose(0, 1)[None], rule, causal=True)
    order = torch.arange(len(q), device=q.device)
    allowed = _allowed(order, order, rule) & (order[:, None] >= order)
    return _explicit(q, k.transpose(0, 1), v.transpose(0, 1), rule, allowed)


def past(
    q: Tensor, keys: Tensor, values: Tensor, rule: Rule, positions: Tensor, seen: Tensor
) -> Part:
    """Every token looks at all the keys that the window allows.

    Args:
        q: [tokens, heads, width].
        keys: [1, kv heads, past, width], all of them before the tokens; values likewise.
        rule: of this layer.
        positions: int64 [tokens].
        seen: int64 [past], positions of the keys.
    """
    if rule.plain and _fused(q, values):
        return _flash(q, keys, values, rule, causal=False)
    return _explicit(q, keys[0], values[0], rule, _allowed(positions, seen, rule))


def _fused(q: Tensor, v: Tensor) -> bool:
    return q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def _flash(q: Tensor, keys: Tensor, values: Tensor, rule: Rule, *, causal: bool) -> Part:
    """Fused attention of the CPU. keys, values [1, kv heads, tokens, width]."""
    out, mass = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q.transpose(0, 1)[None], keys, values, 0.0, causal, scale=rule.scale
    )
    return Part(out[0].transpose(0, 1), mass[0].transpose(0, 1))


def _explicit(q: Tensor, keys: Tensor, values: Tensor, rule: Rule, allowed: Tensor) -> Part:
    """Attention written out. keys, values [kv heads, past, width]; allowed bool [tokens, past]."""
    tokens, heads, width = q.shape
    kv_heads, seen, _ = keys.shape
    grouped = q.transpose(0, 1).reshape(kv_heads, -1, width)
    scores = (grouped @ keys.transpose(1, 2)).view(kv_heads, -1, tokens, seen)
    scores = _capped(scores * rule.scale, rule).masked_fill_(~allowed, -torch.inf)
    mass = scores.logsumexp(-1)
    # A window may hide every key of a token: no mass, and weights of 0 instead of NaN.
    weights = (scores - mass.clamp(min=torch.finfo(mass.dtype).min)[..., None]).exp_()
    out = weights.view(kv_heads, -1, seen) @ values
    return Part(
        out.view(heads, tokens, -1).transpose(0, 1), mass.view(heads, tokens).transpose(0, 1)
    )


def _capped(scores: Tensor, rule: Rule) -> Tensor:
    if rule.softcap is None:
        return scores
    return scores.div_(rule.softcap).tanh_().mul_(rule.softcap)


def _allowed(positions: Tensor, seen: Tensor, rule: Rule) -> Tensor:
    if rule.window is None:
        return torch.ones(len(positions), len(seen), dtype=torch.bool, device=seen.device)
    return seen[None] > positions[:, None] - rule.window


@dataclass(frozen=True, slots=True)
class _Plan:
    """Indices of a group's pages for one shape of heads, the same in every layer.

    Attributes:
        key_rows: int32, rows of the table of transposed keys, one bag of `width` for each (row, head, page).
        key_bags: int32, where bags begin.
        value_rows: int32, rows of the table of values, one bag for each (row, head).
        value_bags: int32, where bags begin.
        hidden: bool [rows, 1, places], beyond the row's length or outside its window.
    """

    key_rows: Tensor
    key_bags: Tensor
    value_rows: Tensor
    value_bags: Tensor
    hidden: Tensor


def _plan(group: Group, pages: LayerPages, heads: int, window: int | None) -> _Plan:
    kv_heads, width, size = pages.keys.shape[1:]
    key = (heads, kv_heads, width, window)
    found = group.plans.get(key)
    if isinstance(found, _Plan):
        return found
    device, integer = group.pages.device, torch.int32
    rows, used = group.pages.shape
    shared_by = torch.arange(heads, device=device) // (heads // kv_heads)
    blocks = (group.pages[:, None] * kv_heads + shared_by[:, None]).to(integer)  # rows, heads, used
    places = torch.arange(size, device=device, dtype=integer)
    widths = torch.arange(width, device=device, dtype=integer)
    order = torch.arange(used * size, device=device)
    hidden = order >= group.lengths[:, None]
    if window is not None:
        hidden = hidden | (order <= group.lengths[:, None] - 1 - window)
    made = _Plan(
        (blocks[..., None] * width + widths).flatten(),
        torch.arange(rows * heads * used, device=device, dtype=integer) * width,
        (blocks[..., None] * size + places).flatten(),
        torch.arange(rows * heads, device=device, dtype=integer) * (used * size),
        hidden[:, None],
    )
    group.plans[key] = made
    return made


def _scores(pages: LayerPages, group: Group, plan: _Plan, q: Tensor, rule: Rule) -> Tensor:
    """Scores of a group's tokens, -inf where nothing may be seen: [rows, heads, places]."""
    rows, heads, width = q.shape
    used = group.pages.shape[1]
    queries = (q * rule.scale)[:, :, None].expand(rows, heads, used, width)
    table = pages.keys.view(-1, pages.keys.shape[-1])
    scores = functional.embedding_bag(
        plan.key_rows, table, plan.key_bags, mode="sum", per_sample_weights=queries.flatten()
    )
    return _capped(scores.view(rows, heads, -1), rule).masked_fill_(plan.hidden, -torch.inf)


def _weighted(pages: LayerPages, plan: _Plan, weights: Tensor) -> Tensor:
    """Values weighted by [rows, heads, places]."""
    table = pages.values.view(-1, pages.values.shape[-1])
    out = functional.embedding_bag(
        plan.value_rows, table, plan.value_bags, mode="sum", per_sample_weights=weights.flatten()
    )
    return out.view(*weights.shape[:2], -1)


def _decode_values(pages: LayerPages, group: Group, q: Tensor, rule: Rule) -> Tensor:
    """One token of each row of a group over its own pages."""
    mine = q[group.first : group.last]
    plan = _plan(group, pages, q.shape[1], rule.window)
    return _weighted(pages, plan, _scores(pages, group, plan, mine, rule).softmax(-1))


def _decode_part(
    pages: LayerPages, group: Group, q: Tensor, rule: Rule, positions: Tensor
) -> Part:
    """The same, to be merged."""
    mine = q[group.first : group.last]
    plan = _plan(group, pages, q.shape[1], rule.window)
    scores = _scores(pages, group, plan, mine, rule)
    highest = scores.amax(-1, keepdim=True)
    weights = scores.sub_(highest).exp_()
    total = weights.sum(-1, keepdim=True)
    values = _weighted(pages, plan, weights).div_(total)
    return Part(values, total.log_().add_(highest)[..., 0])


Attend = Callable[[int, Tensor, Tensor, Tensor, Rule], Tensor]
