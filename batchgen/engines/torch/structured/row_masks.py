"""Samples the tokens of a batch in which some rows have a grammar.

    logits ──penalties──> scores ──masks of rows with a grammar──> scores ──sampler──> tokens

The scores of rows without a grammar are not changed, and rows are sampled independently: they get the same tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchgen.decoding.sampling import first_argmax
from batchgen.decoding.upload import upload
from batchgen.engines.torch.token_chooser import BatchSampler, SampledBatch
from batchgen.structured.row_matchers import GrammarRow, RowMatchers


class RowMasks:
    """The masks of an engine's rows, and memory that is used again at the next step: new memory costs more than the masks."""

    def __init__(self, matchers: RowMatchers) -> None:
        self._matchers = matchers
        self._added = np.empty((0, 0), dtype=np.float32)
        self._masked = torch.empty(0, 0)

    def sample(
        self, sampler: BatchSampler, logits: Tensor, rows: Sequence[GrammarRow]
    ) -> SampledBatch:
        """Sample one token per row from raw logits [rows, vocab], which are not changed; `rows`: those with a grammar."""
        masks = self._matchers.masks(rows, logits.shape[1])
        places = [row.place for row in rows]
        raw_finite: list[bool] = []

        def warp(scores: Tensor) -> Tensor:
            raw_finite.extend(_finite_rows(scores, places))
            return self._apply(scores, places, masks)

        batch = sampler.sample(logits, warp)
        finite, outcomes = list(batch.finite), dict(batch.outcomes)
        for row, is_finite in zip(rows, raw_finite, strict=True):
            if is_finite and finite[row.place]:
                outcomes[row.place] = self._matchers.accept(row, batch.token_ids[row.place])
                continue
            self._matchers.drop(row)
            if is_finite:
                # All tokens that the grammar allows have probability 0.
                outcomes[row.place] = "stuck"
            finite[row.place] = is_finite
        return replace(batch, finite=finite, outcomes=outcomes)

    def _apply(self, scores: Tensor, places: Sequence[int], masks: NDArray[np.int32]) -> Tensor:
        """As `apply_masks`; in float32 on a CPU, in memory of the step before."""
        if scores.device.type != "cpu" or scores.dtype != torch.float32:
            return apply_masks(scores, places, masks)
        rows, width = scores.shape
        if len(self._masked) < rows or self._masked.shape[1] != width:
            self._added = np.empty((rows, 32 * masks.shape[1]), dtype=np.float32)
            self._masked = torch.empty_like(scores)
        added = self._added[: len(places)]
        table = added.reshape(len(places), -1, 8)
        np.take(_ADDED, masks.view(np.uint8), axis=0, out=table, mode="clip")
        masked = self._masked[:rows]
        source, target = scores.numpy(), masked.numpy()
        if len(places) < rows:
            np.copyto(target, source)
        for number, place in enumerate(places):
            np.add(source[place], added[number, :width], out=target[place])
        return masked


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_ADDED = np.where(_BITS == 1, np.float32(0), np.float32(-np.inf))
"""By the byte of a mask, what is added to the scores of its eight tokens."""


def apply_masks(scores: Tensor, places: Sequence[int], masks: NDArray[np.int32]) -> Tensor:
    """A copy of the scores [rows, vocab] with -inf for the tokens that the masks of these rows exclude."""
    masked = scores.clone()
    width = scores.shape[1]
    if scores.device.type == "cpu":
        bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")[:, :width]
        excluded = torch.from_numpy(bits).view(torch.bool).logical_not_()
    else:
        words = upload(torch.from_numpy(masks), scores.device)
        shifts = torch.arange(32, dtype=torch.int32, device=scores.device)
        excluded = ((words[:, :, None] >> shifts) & 1).view(len(masks), -1)[:, :width] == 0
    if len(places) == len(scores):
        return masked.masked_fill_(excluded, -torch.inf)
    index = upload(torch.tensor(places), scores.device)
    masked[index] = masked[index].masked_fill_(excluded, -torch.inf)
    return masked


def _finite_rows(logits: Tensor, places: Sequence[int]) -> list[bool]:
    """Whether the raw logits of these rows are finite, as the sampler finds it for other rows."""
    part = logits
    if len(places) < len(logits):
        part = logits[upload(torch.tensor(places), logits.device)]
    highest = part.gather(1, first_argmax(part)[:, None])[:, 0]
    found: list[bool] = highest.isfinite().tolist()
    return found
