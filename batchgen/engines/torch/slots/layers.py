"""Attention of each layer over a step: what was just computed, what lies in pages, what prefixes hold.

    prefill   causal over the segment's own new tokens  +  its own past, read from pages  +  its prefix
    decode    its own pages, the new token among them                                     +  its prefix

A prefix is looked up by all its rows in one product, so its keys stream through memory once for all of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from batchgen.engines.torch.slots import paged
from batchgen.engines.torch.slots.attention import Part, Rule, Seen, causal, past
from batchgen.engines.torch.slots.scheduler import Kind, Prefix
from batchgen.engines.torch.slots.step import Batch, Group, Piece, Reach
from batchgen.engines.torch.slots.store import LayerPages, Store


@dataclass(frozen=True, slots=True)
class Fresh:
    """What a layer computed for the tokens of a step.

    Attributes:
        layer: its number.
        q: [tokens, heads, key width].
        k: [tokens, kv heads, key width].
        v: [tokens, kv heads, value width].
        rule: of this layer.
    """

    layer: int
    q: Tensor
    k: Tensor
    v: Tensor
    rule: Rule


class StepAttention:
    """Attention of all layers over one step. Made anew for each step."""

    def __init__(self, batch: Batch, store: Store) -> None:
        """Attend within `batch`, whose past is in `store`."""
        self._batch = batch
        self._store = store

    def __call__(self, fresh: Fresh) -> Tensor:
        """Store a layer's new keys and values and attend: [tokens, heads, value width]."""
        self._write(fresh)
        if self._batch.kind is Kind.PREFILL:
            whole = _joined([self._piece(piece, fresh) for piece in self._batch.pieces])
        elif self._batch.reaches or fresh.rule.sinks is not None:
            whole = _joined([self._group(group, fresh) for group in self._batch.groups])
        else:
            # Nothing to merge with: no need for the mass.
            return self._decode(fresh)
        for reach in self._batch.reaches:
            self._look(reach, fresh, whole)
        if fresh.rule.sinks is not None:
            whole.sink(fresh.rule.sinks)
        return whole.values

    def _write(self, fresh: Fresh) -> None:
        batch = self._batch
        if batch.prefixed < len(fresh.k):
            own = slice(batch.prefixed, None)
            self._pages(fresh).write(fresh.k[own], fresh.v[own], batch.places)
        for piece in batch.pieces:
            if isinstance(piece.owner, Prefix):
                at = slice(piece.first, piece.last)
                held = self._store.prefix(piece.owner, fresh.layer, fresh.k, fresh.v)
                held.write(fresh.k[at], fresh.v[at], piece.past)

    def _decode(self, fresh: Fresh) -> Tensor:
        pages = self._pages(fresh)
        parts = [
            paged.attend(fresh.q[g.first : g.last], pages, _plan(g, pages, fresh), fresh.rule)
            for g in self._batch.groups
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _group(self, group: Group, fresh: Fresh) -> Part:
        pages = self._pages(fresh)
        q = fresh.q[group.first : group.last]
        return paged.attend_part(q, pages, _plan(group, pages, fresh), fresh.rule)

    def _piece(self, piece: Piece, fresh: Fresh) -> Part:
        at = slice(piece.first, piece.last)
        q, positions = fresh.q[at], self._batch.positions[at]
        own = Seen(fresh.k[at].transpose(0, 1), fresh.v[at].transpose(0, 1), positions)
        part = causal(q, own, fresh.rule)
        if piece.past:
            part.merge(past(q, self._past(piece, fresh), fresh.rule, positions))
        return part

    def _past(self, piece: Piece, fresh: Fresh) -> Seen:
        """The tokens of a segment's owner that are behind the segment, without its prefix."""
        if isinstance(piece.owner, Prefix):
            held = self._store.prefix(piece.owner, fresh.layer, fresh.k, fresh.v)
            keys, values, start = held.keys[:, : piece.past], held.values[:, : piece.past], 0
        else:
            keys, values = self._pages(fresh).read(piece.pages, piece.past)
            start = piece.owner.shared
        return Seen(keys, values, torch.arange(start, start + piece.past, device=keys.device))

    def _look(self, reach: Reach, fresh: Fresh, whole: Part) -> None:
        held = self._store.prefix(reach.prefix, fresh.layer, fresh.k, fresh.v)
        count = torch.arange(held.keys.shape[1], device=held.keys.device)
        seen = Seen(held.keys, held.values, count)
        at = slice(reach.first, reach.last)
        part = past(fresh.q[at], seen, fresh.rule, self._batch.positions[at])
        whole.cut(reach.first, reach.last).merge(part)

    def _pages(self, fresh: Fresh) -> LayerPages:
        return self._store.layer(fresh.layer, fresh.k, fresh.v)


def _plan(group: Group, pages: LayerPages, fresh: Fresh) -> paged.Plan:
    return paged.plan(group, pages, fresh.q.shape[1], fresh.rule.window)


def _joined(parts: list[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    return Part(torch.cat([p.values for p in parts]), torch.cat([p.mass for p in parts]))
