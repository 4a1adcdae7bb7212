"""Attention of each layer over a step: new tokens, pages and prefixes.

    prefill   causal over the segment's own new tokens  +  its own past, read from pages  +  its prefix
    decode    its own pages, including the new token                                      +  its prefix

All rows of a prefix attend to it in one product, which reads its keys once. With a compiled kernel (`kernel_dispatch.py`),
a decode step is one call, in which each row reads its prefix separately.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward import kernel_dispatch as compiled
from batchgen.engines.torch.continuous.forward import paged_attention as paged
from batchgen.engines.torch.continuous.forward.attention import (
    AttendedKeys,
    AttentionRule,
    LayerQkv,
    PartialAttention,
    causal_attention,
    past_attention,
)
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStore
from batchgen.engines.torch.continuous.step import PrefixPiece, PrefixReach, RowPiece, StepBatch
from batchgen.planning.sequences import StepKind

Attended = TypeVar("Attended", Tensor, PartialAttention)
Attend = Callable[[Tensor, KVLayer, paged.AttentionPlan, AttentionRule], Attended]


class StepAttention:
    """Attention of all layers over one step; created for each step."""

    def __init__(self, batch: StepBatch, store: KVStore) -> None:
        self._batch = batch
        self._store = store

    def __call__(self, fresh: LayerQkv) -> Tensor:
        """Store a layer's new keys and values and attend: [tokens, heads, value width]."""
        batch, decoding = self._batch, self._batch.kind is StepKind.DECODE
        layer = self._store.layer(fresh.layer, fresh.k, fresh.v)
        if decoding and compiled.kernel_supports_attention(fresh, layer):
            own = compiled.kernel_attention(fresh, layer, self._decode_layout)
            reaches = self._reaches_without_kernel
        else:
            self._write(fresh, layer)
            if decoding and not batch.reaches and fresh.rule.sinks is None:
                # Nothing to merge with: the mass is not needed.
                parts = self._groups(fresh, layer, paged.attend_pages)
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            own = PartialAttention.concatenate(
                self._groups(fresh, layer, paged.attend_pages_partial)
                if decoding
                else [self._piece(piece, fresh, layer) for piece in batch.pieces]
            )
            reaches = batch.reaches
        for reach in reaches:
            self._merge_prefix(reach, fresh, layer, own)
        if fresh.rule.sinks is not None:
            own.sink(fresh.rule.sinks)
        return own.values

    @cached_property
    def _reaches_without_kernel(self) -> tuple[PrefixReach, ...]:
        return tuple(
            reach for reach in self._batch.reaches if not compiled.kernel_reads_prefix(reach)
        )

    @cached_property
    def _decode_layout(self) -> compiled.DecodeLayout:
        return compiled.DecodeLayout.of(self._batch)

    def _write(self, fresh: LayerQkv, layer: KVLayer) -> None:
        batch = self._batch
        if batch.runs:
            layer.write_runs(fresh.k, fresh.v, batch.runs)
        elif len(batch.slot_mapping.pages):
            layer.write(fresh.k, fresh.v, batch.slot_mapping)
        for piece in batch.pieces:
            if isinstance(piece, PrefixPiece):
                at = slice(piece.first, piece.last)
                layer.write_prefix(fresh.k[at], fresh.v[at], piece.start + piece.past)

    def _groups(self, fresh: LayerQkv, layer: KVLayer, attend: Attend[Attended]) -> list[Attended]:
        heads, rule = fresh.q.shape[1], fresh.rule
        return [
            attend(
                fresh.q[group.first : group.last],
                layer,
                paged.attention_plan(group, layer, heads, rule.window),
                rule,
            )
            for group in self._batch.groups
        ]

    def _piece(
        self, piece: RowPiece | PrefixPiece, fresh: LayerQkv, layer: KVLayer
    ) -> PartialAttention:
        at = slice(piece.first, piece.last)
        q, positions = fresh.q[at], self._batch.positions[at]
        own = AttendedKeys(fresh.k[at].transpose(0, 1), fresh.v[at].transpose(0, 1), positions)
        part = causal_attention(q, own, fresh.rule)
        if piece.past:
            part.merge(past_attention(q, _past(piece, layer), fresh.rule, positions))
        return part

    def _merge_prefix(
        self, reach: PrefixReach, fresh: LayerQkv, layer: KVLayer, own: PartialAttention
    ) -> None:
        length = len(reach.slots)
        keys, values = layer.read_prefix(reach.slots.start, length)
        seen = AttendedKeys(keys, values, torch.arange(length, device=keys.device))
        at = slice(reach.first, reach.last)
        part = past_attention(fresh.q[at], seen, fresh.rule, self._batch.positions[at])
        own.cut(reach.first, reach.last).merge(part)


def _past(piece: RowPiece | PrefixPiece, layer: KVLayer) -> AttendedKeys:
    """The cached tokens before a segment, without its prefix."""
    if isinstance(piece, PrefixPiece):
        start, (keys, values) = 0, layer.read_prefix(piece.start, piece.past)
    else:
        start, (keys, values) = piece.shared, layer.read(piece.pages, piece.past)
    return AttendedKeys(keys, values, torch.arange(start, start + piece.past, device=keys.device))
