"""The next token of each row of a step: penalties, sampler, one transfer to the host.

The rows of a step are at different positions of their answers. Tensors of their settings are kept while the same rows
come in the same order, as in most steps. If memory runs out, nothing is kept; the same rows then get the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from batchgen.decoding.penalties import History, Penalties
from batchgen.decoding.rng import uniforms
from batchgen.decoding.sampling import Sampler, logprob
from batchgen.records import Request


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A row that samples a token.

    Attributes:
        number: key of the row.
        request: its settings and seed.
        tokens: prompt and new tokens so far.
    """

    number: int
    request: Request
    tokens: Sequence[int]

    @property
    def step(self) -> int:
        """Number of new tokens so far."""
        return len(self.tokens) - len(self.request.token_ids)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token of a row; meaningless if the logits were not finite.

    Attributes:
        logprob: natural log-probability under the raw logits; 0 unless the row requests it.
    """

    token_id: int
    finite: bool
    logprob: float


class TokenSampler:
    """Samples tokens for steps."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._numbers: list[int] = []
        self._sampler = Sampler.of([], device)
        self._penalties = Penalties.of([], device)
        self._history: History | None = None
        self._seeds = np.zeros(0, dtype=np.uint64)
        self._logprobs = False

    @torch.inference_mode()
    def pick(self, asked: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """Sample one token for each row from raw logits [rows, vocab], which are not changed."""
        numbers = [one.number for one in asked]
        known = numbers == self._numbers
        # A failed call may leave settings of other rows, or a history that is one token ahead.
        self._numbers = []
        if not known:
            self._prepare(asked)
        scores = logits
        if self._history is not None:
            scores = self._penalties.apply(logits, self._history)
        draw = self._sampler.draw(scores, self._uniforms(asked))
        if self._history is not None:
            self._history.append(draw.tokens)
        token_ids, finite = torch.stack([draw.tokens, draw.finite.long()]).tolist()
        logprobs = [0.0] * len(token_ids)
        if self._logprobs:
            logprobs = logprob(logits, draw.tokens).tolist()
        self._numbers = numbers
        return [
            SampledToken(token, bool(good), score)
            for token, good, score in zip(token_ids, finite, logprobs, strict=True)
        ]

    def _prepare(self, asked: Sequence[SampledRow]) -> None:
        settings = [one.request.decoding for one in asked]
        self._sampler = Sampler.of(settings, self._device)
        self._penalties = Penalties.of(settings, self._device)
        self._seeds = np.array([one.request.seed for one in asked], dtype=np.uint64)
        self._logprobs = any(one.logprobs for one in settings)
        self._history = None
        if self._penalties.active:
            self._history = History.of([one.tokens for one in asked], self._device)
            self._history.new += torch.tensor([one.step for one in asked], device=self._device)

    def _uniforms(self, asked: Sequence[SampledRow]) -> Tensor:
        if self._sampler.greedy:
            return torch.empty(0)
        steps = np.array([one.step for one in asked], dtype=np.int64)
        return torch.from_numpy(uniforms(self._seeds, steps)).to(self._device)
