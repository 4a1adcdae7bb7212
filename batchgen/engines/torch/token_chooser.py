"""The next token of every row of a batch: penalties, sampler, one transfer to the host. The same in every tier."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from batchgen.decoding.penalties import History, Penalties
from batchgen.decoding.rng import uniforms
from batchgen.decoding.sampling import Drawing, Sampler, log_probabilities, most_likely
from batchgen.decoding.upload import upload
from batchgen.records import Request
from batchgen.structured.row_matchers import Outcome


@dataclass(frozen=True, slots=True)
class MostLikely:
    """The most likely tokens at a position, most likely first, and their natural log-probabilities."""

    token_ids: Sequence[int]
    logprobs: Sequence[float]


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """The tokens of one step.

    Attributes:
        tokens: int64 [rows], on the model's device.
        token_ids: the same on the host.
        finite: False where a row's logits were not finite: its token is meaningless.
        logprobs: natural log-probability of each token under the raw logits; zeros if no row requests it.
        most_likely: of each row, under the raw logits; None for a row that does not request them.
        outcomes: of the rows that have a grammar.
    """

    tokens: Tensor
    token_ids: list[int]
    finite: list[bool]
    logprobs: list[float]
    most_likely: Sequence[MostLikely | None]
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)


Warp = Callable[[Tensor], Tensor]
"""Maps scores [rows, vocab] to scores; applied between penalties and sampler."""


NONE_RECORDED: list[MostLikely | None] = [None]


class BatchSampler(Protocol):
    """Samples tokens for the rows of one batch, which are all at the same step."""

    def sample(self, logits: Tensor, warp: Warp | None = None) -> SampledBatch:
        """Sample one token per row from raw logits [rows, vocab], which are not changed."""

    def select(self, rows: Sequence[int]) -> None: ...


class RequestSampler:
    """Samples with the settings of the requests."""

    def __init__(
        self,
        requests: Sequence[Request],
        device: torch.device,
        tokens: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """`tokens`: of each row so far, prompt and new ones, which penalties include; default: the prompts."""
        settings = [request.decoding for request in requests]
        self._device = device
        self._sampler = Sampler.of(settings, device)
        self._penalties = Penalties.of(settings, device)
        self._history: History | None = None
        prompts = [request.token_ids for request in requests]
        rows = prompts if tokens is None else tokens
        new = [len(row) - len(prompt) for row, prompt in zip(rows, prompts, strict=True)]
        self._steps = np.array(new, dtype=np.int64)
        if self._penalties.active:
            self._history = History.of(rows, device)
            self._history.new += upload(torch.tensor(new), device)
        self._seeds = np.array([request.seed for request in requests], dtype=np.uint64)
        self._logprobs = any(one.logprobs for one in settings)
        self._tops = [one.top_logprobs for one in settings]

    def sample(self, logits: Tensor, warp: Warp | None = None) -> SampledBatch:
        scores = logits
        if self._history is not None:
            scores = self._penalties.apply(logits, self._history)
        if warp is not None:
            scores = warp(scores)
        drawing = self._sampler.start(scores, self._uniforms())
        rows = self._read(logits, drawing)
        settled = [bool(row[2]) for row in rows]
        if not all(settled):
            drawing.finish(settled)
            rows = self._read(logits, drawing)
        if self._history is not None:
            self._history.append(drawing.tokens)
        self._steps += 1
        return SampledBatch(
            drawing.tokens,
            [int(row[0]) for row in rows],
            [bool(row[1]) for row in rows],
            [row[3] if self._logprobs else 0.0 for row in rows],
            _most_likely_of([row[4:] for row in rows], self._tops)
            if self._logprobs
            else NONE_RECORDED * len(rows),
        )

    def _read(self, logits: Tensor, drawing: Drawing) -> list[list[float]]:
        """Of each row: token, finite, settled; then its log-probability and the most likely tokens if any row wants them."""
        columns = [torch.stack([drawing.tokens, drawing.finite, drawing.settled], dim=1).double()]
        if self._logprobs:
            table = log_probabilities(logits)
            columns += [
                table.gather(1, drawing.tokens[:, None]).double(),
                _most_likely_columns(logits, table, self._tops),
            ]
        # One transfer: float64 is exact for token ids.
        rows: list[list[float]] = torch.cat(columns, dim=1).tolist()
        return rows

    def select(self, rows: Sequence[int]) -> None:
        index = upload(torch.tensor(rows), self._device)
        self._sampler = self._sampler.select(rows)
        self._penalties = self._penalties.select(index)
        if self._history is not None:
            self._history = self._history.select(index)
        self._seeds = self._seeds[list(rows)]
        self._steps = self._steps[list(rows)]
        self._tops = [self._tops[row] for row in rows]

    def _uniforms(self) -> Tensor:
        if self._sampler.greedy:
            return torch.empty(0)
        return upload(torch.from_numpy(uniforms(self._seeds, self._steps)), self._device)


def record_most_likely(
    logits: Tensor, logprobs: Tensor, counts: Sequence[int | None]
) -> list[MostLikely | None]:
    """The most likely tokens of each row, as many as `counts` requests; None where it requests none.

    `logits` and `logprobs` are [rows, vocab].
    """
    return _most_likely_of(_most_likely_columns(logits, logprobs, counts).tolist(), counts)


def _most_likely_columns(logits: Tensor, logprobs: Tensor, counts: Sequence[int | None]) -> Tensor:
    """float64 [rows, 2 x most]: ids, then their log-probabilities."""
    most = min(max((count or 0 for count in counts), default=0), logits.shape[1])
    ids = most_likely(logits, most)
    return torch.cat([ids.double(), logprobs.gather(1, ids).double()], dim=1)


def _most_likely_of(
    columns: Sequence[Sequence[float]], counts: Sequence[int | None]
) -> list[MostLikely | None]:
    found: list[MostLikely | None] = []
    for row, count in zip(columns, counts, strict=True):
        most = len(row) // 2
        ids, values = list(map(int, row[:most])), row[most:]
        found.append(None if count is None else MostLikely(ids[:count], values[:count]))
    return found
