"""The next token of every row of a batch: penalties, sampler, one transfer to the host. The same in every tier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from batchgen.decoding.penalties import History, Penalties
from batchgen.decoding.rng import uniforms
from batchgen.decoding.sampling import Sampler, logprob
from batchgen.records import Request


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """The tokens of one step.

    Attributes:
        tokens: int64 [rows], on the model's device.
        token_ids: the same on the host.
        finite: False where a row's logits were not finite: its token is meaningless.
        logprobs: natural log-probability of each token under the raw logits; zeros if no row requests it.
    """

    tokens: Tensor
    token_ids: list[int]
    finite: list[bool]
    logprobs: list[float]


Warp = Callable[[Tensor], Tensor]
"""Maps scores [rows, vocab] to scores; applied between penalties and sampler."""


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
            self._history.new += torch.tensor(new, device=device)
        self._seeds = np.array([request.seed for request in requests], dtype=np.uint64)
        self._logprobs = any(one.logprobs for one in settings)

    def sample(self, logits: Tensor, warp: Warp | None = None) -> SampledBatch:
        scores = logits
        if self._history is not None:
            scores = self._penalties.apply(logits, self._history)
        if warp is not None:
            scores = warp(scores)
        draw = self._sampler.draw(scores, self._uniforms())
        if self._history is not None:
            self._history.append(draw.tokens)
        self._steps += 1
        token_ids, finite = torch.stack([draw.tokens, draw.finite.long()]).tolist()
        logprobs = [0.0] * len(token_ids)
        if self._logprobs:
            logprobs = logprob(logits, draw.tokens).tolist()
        return SampledBatch(draw.tokens, token_ids, list(map(bool, finite)), logprobs)

    def select(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows, device=self._device)
        self._sampler = self._sampler.select(index)
        self._penalties = self._penalties.select(index)
        if self._history is not None:
            self._history = self._history.select(index)
        self._seeds = self._seeds[list(rows)]
        self._steps = self._steps[list(rows)]

    def _uniforms(self) -> Tensor:
        if self._sampler.greedy:
            return torch.empty(0)
        return torch.from_numpy(uniforms(self._seeds, self._steps)).to(self._device)
