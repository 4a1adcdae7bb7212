"""The next token of each row of a step.

The rows of a step are at different positions of their answers. Tensors of their settings are kept while the same rows
come in the same order, as in most steps. If memory runs out, nothing is kept; the same rows then get the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from batchgen.engines.torch.structured.row_masks import RowMasks
from batchgen.engines.torch.token_chooser import MostLikely, RequestSampler
from batchgen.records import Request
from batchgen.structured.row_matchers import GrammarRow, Outcome


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
    most_likely: MostLikely | None = None
    outcome: Outcome = "open"


class TokenSampler:
    """Samples tokens for steps."""

    def __init__(self, device: torch.device, masks: RowMasks | None = None) -> None:
        """`masks`: for rows with a grammar."""
        self._device = device
        self._masks = masks
        self._with_grammar: list[int] = []
        self._numbers: list[int] = []
        self._lengths: list[int] = []
        self._sampler = RequestSampler([], device)

    @torch.inference_mode()
    def sample(self, rows: Sequence[SampledRow], logits: Tensor) -> list[SampledToken]:
        """Sample one token for each row from raw logits [rows, vocab], which are not changed."""
        numbers = [row.number for row in rows]
        lengths = [len(row.tokens) for row in rows]
        # A row that begins again has fewer tokens.
        unchanged = numbers == self._numbers and lengths == [n + 1 for n in self._lengths]
        # A failed call may leave settings of other rows, or a history that is one token ahead.
        self._numbers = []
        if not unchanged:
            requests, tokens = [row.request for row in rows], [row.tokens for row in rows]
            self._sampler = RequestSampler(requests, self._device, tokens)
            self._with_grammar = [
                place for place, row in enumerate(rows) if row.request.decoding.grammar is not None
            ]
        if self._with_grammar and self._masks is not None:
            masked = [_grammar_row(place, rows[place]) for place in self._with_grammar]
            batch = self._masks.sample(self._sampler, logits, masked)
        else:
            batch = self._sampler.sample(logits)
        self._numbers, self._lengths = numbers, lengths
        columns = batch.token_ids, batch.finite, batch.logprobs, batch.most_likely
        outcomes = batch.outcomes
        return [
            SampledToken(*token, outcomes.get(place, "open"))
            for place, token in enumerate(zip(*columns, strict=True))
        ]


def _grammar_row(place: int, row: SampledRow) -> GrammarRow:
    new = row.tokens[len(row.request.token_ids) :]
    return GrammarRow(place, row.number, row.request.decoding, new)
