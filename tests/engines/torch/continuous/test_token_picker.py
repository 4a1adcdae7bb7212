"""A picker draws like one without cached state, even after a draw that ran out of memory."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from batchgen.engines.torch.continuous.token_picker import SampledRow, SampledToken, TokenSampler
from batchgen.records import ResolvedDecoding
from tests.engines.torch.tiny_models import CPU, VOCABULARY, prompts, requests

REQUESTS = requests(
    prompts(4),
    ResolvedDecoding(temperature=1.5, top_p=0.9, repetition_penalty=3.0, logprobs=True),
    ResolvedDecoding(temperature=2.0, min_p=0.01, no_repeat_ngram_size=1),
    ResolvedDecoding(repetition_penalty=3.0, logprobs=True),
    ResolvedDecoding(temperature=3.0, min_new_tokens=9, end_token_ids=frozenset(range(60))),
)
ROWS = {"all": (0, 1, 2, 3), "two": (0, 3)}


class Ending(TorchFunctionMode):
    """Runs out of memory at one call of torch."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._left = calls

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if self._left == 0:
            raise torch.OutOfMemoryError
        self._left -= 1
        return func(*args, **(kwargs or {}))


class Answers:
    """Rows whose answers grow by one token per step; logits depend only on the row and its step."""

    def __init__(self) -> None:
        self._tokens = [list(request.token_ids) for request in REQUESTS]

    def draw(self, sampler: TokenSampler, rows: Sequence[int]) -> list[SampledToken]:
        submitted = [SampledRow(row, REQUESTS[row], self._tokens[row]) for row in rows]
        return sampler.sample(submitted, torch.stack([self._logits(row) for row in rows]))

    def grow(self, sampler: TokenSampler, rows: Sequence[int]) -> None:
        """Draws one more token per row, as a picker without cached state would."""
        expected = self.draw(TokenSampler(CPU), rows)
        assert self.draw(sampler, rows) == expected
        for row, sampled in zip(rows, expected, strict=True):
            self._tokens[row].append(sampled.token_id)

    def _logits(self, row: int) -> Tensor:
        source = torch.Generator().manual_seed(100 * row + len(self._tokens[row]))
        return torch.randn(VOCABULARY, generator=source)


@pytest.mark.parametrize("then", ROWS)
@pytest.mark.parametrize("lost", ROWS)
def test_an_out_of_memory_error_in_a_draw_does_not_change_the_next(lost: str, then: str) -> None:
    for calls in count():
        answers, sampler = Answers(), TokenSampler(CPU)
        answers.grow(sampler, ROWS["all"])
        try:
            with Ending(calls):
                answers.draw(sampler, ROWS[lost])
        except torch.OutOfMemoryError:
            answers.grow(sampler, ROWS[then])
            answers.grow(sampler, ROWS[then])
        else:
            break
    assert calls > 30, "memory ends at every call of a draw"
