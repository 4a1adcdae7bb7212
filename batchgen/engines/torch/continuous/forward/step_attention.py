"""Attention of each layer over a step: new tokens, pages and prefixes.

    prefill   causal over the segment's own new tokens  +  its own past, read from pages  +  its prefix
    decode    its own pages, including the new token                                      +  its prefix

All rows of a prefix attend to it in one product, which reads its keys once. With a compiled kernel (`kernel_dispatch.py`),
a decode step is one call, in which each row reads its prefix separately.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward import kernel_dispatch as compiled
from batchgen.engines.torch.continuous.forward import paged_attention as paged
from batchgen.engines.torch.continuous.forward.attention import (
    AttendedKeys,
    AttentionRule,
    PartialAttention,
    causal_attention,
    past_attention,
)
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStore
from batchgen.engines.torch.continuous.step import (
    DecodeGroup,
    PrefixPiece,
    PrefixReach,
    RowPiece,
    StepBatch,
)
from batchgen.planning.sequences import StepKind


@dataclass(frozen=True, slots=True)
class LayerQkv:
    """Queries, keys and values of a layer for the tokens of a step.

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
    rule: AttentionRule


class StepAttention:
    """Attention of all layers over one step; created for each step."""

    def __init__(self, batch: StepBatch, store: KVStore) -> None:
        self._batch = batch
        self._store = store

    def __call__(self, fresh: LayerQkv) -> Tensor:
        """Store a layer's new keys and values and attend: [tokens, heads, value width]."""
        batch, decoding = self._batch, self._batch.kind is StepKind.DECODE
        if decoding and compiled.kernel_supports_attention(fresh.q, self._layer(fresh), fresh.rule):
            whole, reaches = self._compiled(fresh), self._unread
        else:
            self._write(fresh)
            if decoding and not batch.reaches and fresh.rule.sinks is None:
                # Nothing to merge with: the mass is not needed.
                return self._decode(fresh)
            whole = _joined(self._groups(fresh) if decoding else self._pieces(fresh))
            reaches = batch.reaches
        for reach in reaches:
            self._look(reach, fresh, whole)
        if fresh.rule.sinks is not None:
            whole.sink(fresh.rule.sinks)
        return whole.values

    def _compiled(self, fresh: LayerQkv) -> PartialAttention:
        new = compiled.DecodeQkv(fresh.q, fresh.k, fresh.v)
        return compiled.kernel_attention(new, self._layer(fresh), self._held, fresh.rule.scale)

    @cached_property
    def _unread(self) -> tuple[PrefixReach, ...]:
        """The reaches whose prefixes the kernel does not read."""
        return tuple(
            reach for reach in self._batch.reaches if not compiled.kernel_reads_prefix(reach)
        )

    @cached_property
    def _held(self) -> compiled.DecodeLayout:
        return compiled.DecodeLayout.of(self._batch)

    def _write(self, fresh: LayerQkv) -> None:
        batch, layer = self._batch, self._layer(fresh)
        if batch.runs:
            layer.write_runs(fresh.k, fresh.v, batch.runs)
        elif len(batch.places.pages):
            layer.write(fresh.k, fresh.v, batch.places)
        for piece in batch.pieces:
            if isinstance(piece, PrefixPiece):
                at = slice(piece.first, piece.last)
                layer.write_prefix(fresh.k[at], fresh.v[at], piece.start + piece.past)

    def _decode(self, fresh: LayerQkv) -> Tensor:
        pages = self._layer(fresh)
        parts = [
            paged.attend_pages(fresh.q[g.first : g.last], pages, _plan(g, pages, fresh), fresh.rule)
            for g in self._batch.groups
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _groups(self, fresh: LayerQkv) -> list[PartialAttention]:
        pages = self._layer(fresh)
        return [
            paged.attend_pages_partial(
                fresh.q[g.first : g.last], pages, _plan(g, pages, fresh), fresh.rule
            )
            for g in self._batch.groups
        ]

    def _pieces(self, fresh: LayerQkv) -> list[PartialAttention]:
        return [self._piece(piece, fresh) for piece in self._batch.pieces]

    def _piece(self, piece: RowPiece | PrefixPiece, fresh: LayerQkv) -> PartialAttention:
        at = slice(piece.first, piece.last)
        q, positions = fresh.q[at], self._batch.positions[at]
        own = AttendedKeys(fresh.k[at].transpose(0, 1), fresh.v[at].transpose(0, 1), positions)
        part = causal_attention(q, own, fresh.rule)
        if piece.past:
            part.merge(past_attention(q, self._past(piece, fresh), fresh.rule, positions))
        return part

    def _past(self, piece: RowPiece | PrefixPiece, fresh: LayerQkv) -> AttendedKeys:
        """The cached tokens before a segment, without its prefix."""
        layer = self._layer(fresh)
        if isinstance(piece, PrefixPiece):
            keys, values = layer.read_prefix(piece.start, piece.past)
            start = 0
        else:
            keys, values = layer.read(piece.pages, piece.past)
            start = piece.shared
        return AttendedKeys(
            keys, values, torch.arange(start, start + piece.past, device=keys.device)
        )

    def _look(self, reach: PrefixReach, fresh: LayerQkv, whole: PartialAttention) -> None:
        length = len(reach.places)
        keys, values = self._layer(fresh).read_prefix(reach.places.start, length)
        seen = AttendedKeys(keys, values, torch.arange(length, device=keys.device))
        at = slice(reach.first, reach.last)
        part = past_attention(fresh.q[at], seen, fresh.rule, self._batch.positions[at])
        whole.cut(reach.first, reach.last).merge(part)

    def _layer(self, fresh: LayerQkv) -> KVLayer:
        return self._store.layer(fresh.layer, fresh.k, fresh.v)


def _plan(group: DecodeGroup, pages: KVLayer, fresh: LayerQkv) -> paged.AttentionPlan:
    return paged.attention_plan(group, pages, fresh.q.shape[1], fresh.rule.window)


def _joined(parts: list[PartialAttention]) -> PartialAttention:
    if len(parts) == 1:
        return parts[0]
    return PartialAttention(
        torch.cat([p.values for p in parts]), torch.cat([p.mass for p in parts])
    )
