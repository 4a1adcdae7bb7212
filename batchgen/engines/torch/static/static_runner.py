"""Static batching: a batch of prompts starts together, left-padded; finished rows leave.

    prefill     prompts of similar length share a forward; their caches are joined into one
    decode      one forward per step for all running rows; a finished row is removed at once

        . . 5 8 3 | 7 2 9       . padding: the row's own first token, masked
        4 6 1 1 9 | 3 3         5 8 3 prompt | 7 2 9 answer

Correct for models whose forward takes a 2-D attention mask and a cache of transformers' own layers; `parity_probe.py` tests
this when the model is loaded.
"""

from collections.abc import Iterator, Sequence

import torch

from batchgen.engines.torch.completion_builder import (
    NONFINITE,
    CompletionBuilder,
    failed_completion,
)
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.static.forward import CausalForward, StaticBatch, group_by_length
from batchgen.engines.torch.tier import TierOptions
from batchgen.engines.torch.token_chooser import SampledBatch
from batchgen.records import Completion, Request


class StaticRunner:
    """Answers batches with its own prefill and decode loop."""

    name = "static"

    def __init__(
        self, model: LoadedModel, setting: TierOptions, *, forward_cost: int | None = None
    ) -> None:
        """`model`: a decoder. `forward_cost`: cost of another prefill, in tokens; None for the default of the device."""
        self._forward = CausalForward(model, forward_cost)
        self._setting = setting

    @property
    def joins(self) -> bool:
        """Whether prompts of different lengths run together without padding to the longest."""
        return self._forward.joinable

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one batch; yields rows as they finish. See `BatchRunner`."""
        order = sorted(requests, key=lambda request: -len(request.token_ids))
        for first, last in self._decode_groups(order):
            yield from self._run(order[first:last])
            if self._setting.should_stop():
                return

    def _decode_groups(self, order: Sequence[Request]) -> list[tuple[int, int]]:
        """Rows that are decoded together, as (first, last + 1)."""
        lengths = [len(request.token_ids) for request in order]
        return group_by_length(lengths, self._setting.padding_tokens, len(order) * lengths[0])

    def _run(self, order: Sequence[Request]) -> Iterator[Completion]:
        answers = [CompletionBuilder(request, self._setting.decode) for request in order]
        chooser = self._setting.make_chooser(order, self._forward.device)
        batch = StaticBatch(
            self._forward,
            [request.token_ids for request in order],
            max(request.decoding.max_new_tokens for request in order),
        )
        logits = batch.prefill()
        while True:
            choice = chooser.choose(logits)
            running: list[int] = []
            for row, answer in enumerate(answers):
                done = _add_token(answer, choice, row)
                if done is None:
                    running.append(row)
                else:
                    yield done
            if not running or self._setting.should_stop():
                return
            tokens = choice.tokens
            if len(running) < len(answers):
                running = compact_rows(running)
                answers = [answers[row] for row in running]
                chooser.keep(running)
                batch.keep(running)
                tokens = tokens[torch.tensor(running, device=tokens.device)]
            logits = batch.decode(tokens)


def compact_rows(running: Sequence[int]) -> list[int]:
    """The same rows, in an order that moves few: a hole is filled by the last row.

    >>> compacted([0, 2, 3, 4])  # row 1 has left; row 4 takes its place
    [0, 4, 2, 3]
    """
    count = len(running)
    movers = [row for row in running if row >= count]
    staying = set(running)
    return [row if row in staying else movers.pop() for row in range(count)]


def _add_token(answer: CompletionBuilder, choice: SampledBatch, row: int) -> Completion | None:
    if not choice.finite[row]:
        return failed_completion(answer.request, NONFINITE)
    reason = answer.take(choice.token_ids[row], choice.logprobs[row])
    return None if reason is None else answer.completion(reason)
