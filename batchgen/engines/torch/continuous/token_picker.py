"""The next token of each row of a step.

The rows of a step are at different positions of their answers. Tensors of their settings are kept while the same rows
come in the same order, as in most steps. If memory runs out, nothing is kept; the same rows then get the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchgen.engines.torch.token_chooser import RequestSampler
from batchgen.records import Request


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A row that samples a token. `number` is its key; `tokens` are prompt and new tokens so far."""

    number: int
    request: Request
    tokens: Sequence[int]

    @property
    def step(self) -> int:
        return len(self.tokens) - len(self.request.token_ids)


@dataclass(frozen=True, slots=True)
class SampledToken:
    """The token of a row; see `SampledBatch`."""

    token_id: int
    finite: bool
    logprob: float


class TokenSampler:
    """Samples tokens for steps."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._numbers: list[int] = []
        self._sampler = RequestSampler([], device)

    @torch.inference_mode()
    def sample(self, rows: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """Sample one token for each row from raw logits [rows, vocab], which are not changed."""
        numbers = [row.number for row in rows]
        unchanged = numbers == self._numbers
        # A failed call may leave settings of other rows, or a history that is one token ahead.
        self._numbers = []
        if not unchanged:
            requests, tokens = [row.request for row in rows], [row.tokens for row in rows]
            self._sampler = RequestSampler(requests, self._device, tokens)
        batch = self._sampler.sample(logits)
        self._numbers = numbers
        return [
            SampledToken(*token)
            for token in zip(batch.token_ids, batch.finite, batch.logprobs, strict=True)
        ]
