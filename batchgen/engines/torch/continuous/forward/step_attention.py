"""Attention of each layer over a step: new tokens, pages and prefixes.

    a compiled kernel   all pages of a row, those of its prefix first, one token as in any other batch
    torch, prefill      causal over the segment's own new tokens  +  its own past, read from pages  +  its prefix
    torch, decode       its own pages, including the new token                                      +  its prefix

With a kernel (`kernel_dispatch.py`) the bits of a token do not depend on how the row was cut or whether its prefix is shared.
torch computes and merges parts; all rows of a prefix attend to it in one product, which reads its keys once.
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
from batchgen.engines.torch.continuous.step import PrefixReach, RowPiece, StepBatch
from batchgen.planning.sequences import StepKind

Attended = TypeVar("Attended", Tensor, PartialAttention)
Attend = Callable[[Tensor, KVLayer, paged.AttentionPlan, AttentionRule], Attended]


class StepAttention:
    """Attention of all layers over one step; created for each step."""

    def __init__(self, batch: StepBatch, store: KVStore) -> None:
        self._batch = batch
        self._store = store

    def __call__(self, fresh: LayerQkv) -> Tensor:
        """Store a layer's new keys and values and attend: [tokens, heads, value width] in the dtype of the queries."""
        batch, decoding = self._batch, self._batch.kind is StepKind.DECODE
        layer = self._store.layer(fresh.layer, fresh.k, fresh.v)
        if compiled.kernel_supports_attention(fresh, layer):
            if not decoding and not compiled.kernel_store(fresh, layer, self._layout):
                self._write(fresh, layer)
            own = compiled.kernel_attention(fresh, layer, self._layout, stored=not decoding)
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
            if batch.reaches:
                own = own.mergeable()
            for reach in batch.reaches:
                self._merge_prefix(reach, fresh, layer, own)
        if fresh.rule.sinks is not None:
            own.sink(fresh.rule.sinks)
        return own.values.to(fresh.q.dtype)

    @cached_property
    def _layout(self) -> compiled.TokenLayout:
        return compiled.TokenLayout.of(self._batch)

    def _write(self, fresh: LayerQkv, layer: KVLayer) -> None:
        batch = self._batch
        if batch.runs:
            layer.write_runs(fresh.k, fresh.v, batch.runs)
        else:
            layer.write(fresh.k, fresh.v, batch.slot_mapping)

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

    def _piece(self, piece: RowPiece, fresh: LayerQkv, layer: KVLayer) -> PartialAttention:
        at = slice(piece.first, piece.last)
        q, positions = fresh.q[at], self._batch.positions[at]
        own = AttendedKeys(fresh.k[at].transpose(0, 1), fresh.v[at].transpose(0, 1), positions)
        part = causal_attention(q, own, fresh.rule)
        if piece.past:
            part = part.mergeable()
            part.merge(past_attention(q, _past(piece, layer), fresh.rule, positions))
        return part

    def _merge_prefix(
        self, reach: PrefixReach, fresh: LayerQkv, layer: KVLayer, own: PartialAttention
    ) -> None:
        keys, values = layer.read(reach.pages, reach.length)
        seen = AttendedKeys(keys, values, torch.arange(reach.length, device=keys.device))
        at = slice(reach.first, reach.last)
        part = past_attention(fresh.q[at], seen, fresh.rule, self._batch.positions[at])
        own.cut(reach.first, reach.last).merge(part)


def _past(piece: RowPiece, layer: KVLayer) -> AttendedKeys:
    """The cached tokens before a segment, without its prefix."""
    keys, values = layer.read(piece.pages, piece.past)
    positions = torch.arange(piece.shared, piece.shared + piece.past, device=keys.device)
    return AttendedKeys(keys, values, positions)
