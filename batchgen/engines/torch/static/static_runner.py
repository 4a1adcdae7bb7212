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
from torch import Tensor

from batchgen.decoding.upload import upload
from batchgen.engines.torch.completion_builder import CompletionBuilder
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.static.forward import CausalForward, StaticBatch, group_by_length
from batchgen.engines.torch.tier import TierOptions
from batchgen.engines.torch.token_chooser import BatchSampler, SampledBatch
from batchgen.records import Completion, Request
from batchgen.structured.row_matchers import GrammarRow


class StaticRunner:
    """Answers batches with its own prefill and decode loop."""

    name = "static"

    def __init__(
        self, model: LoadedModel, options: TierOptions, *, forward_cost: int | None = None
    ) -> None:
        """`forward_cost`: cost of another prefill, in tokens; None for the default of the device."""
        self._forward = CausalForward(model, forward_cost)
        self._options = options
        self._running: Sequence[CompletionBuilder] = ()

    @property
    def new_tokens(self) -> int:
        return sum(answer.new_tokens for answer in self._running)

    @property
    def joins(self) -> bool:
        return self._forward.joinable

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        order = sorted(requests, key=lambda request: -len(request.token_ids))
        lengths = [len(request.token_ids) for request in order]
        groups = group_by_length(lengths, self._options.padding_tokens, len(order) * lengths[0])
        for first, last in groups:
            yield from self._run(order[first:last])
            if self._options.should_stop():
                return

    def _run(self, order: Sequence[Request]) -> Iterator[Completion]:
        answers = [CompletionBuilder(request, self._options.decode) for request in order]
        self._running = answers
        sampler = self._options.make_sampler(order, self._forward.device)
        batch = StaticBatch(
            self._forward,
            [request.token_ids for request in order],
            max(request.decoding.max_new_tokens for request in order),
        )
        logits = batch.prefill()
        while True:
            sampled = self._sample(sampler, logits, answers)
            running: list[int] = []
            for row, answer in enumerate(answers):
                done = answer.add_sampled(sampled, row)
                if done is None:
                    running.append(row)
                else:
                    yield done
            if not running or self._options.should_stop():
                self._running = ()
                return
            tokens = sampled.tokens
            if len(running) < len(answers):
                running = compact_rows(running)
                answers = [answers[row] for row in running]
                sampler.select(running)
                batch.select(running)
                tokens = tokens[upload(torch.tensor(running), tokens.device)]
                self._running = answers
            logits = batch.decode(tokens)

    def _sample(
        self, sampler: BatchSampler, logits: Tensor, answers: Sequence[CompletionBuilder]
    ) -> SampledBatch:
        masks = self._options.masks
        if masks is None or all(a.request.decoding.grammar is None for a in answers):
            return sampler.sample(logits)
        rows = [
            GrammarRow(place, (r.index, r.sample), r.decoding, answer.token_ids)
            for place, answer in enumerate(answers)
            if (r := answer.request).decoding.grammar is not None
        ]
        return masks.sample(sampler, logits, rows)


def compact_rows(running: Sequence[int]) -> list[int]:
    """The same rows, in an order that moves few: a hole is filled by the last row.

    >>> compact_rows([0, 2, 3, 4])  # row 1 has left; row 4 takes its place
    [0, 4, 2, 3]
    """
    count = len(running)
    movers = [row for row in running if row >= count]
    staying = set(running)
    return [row if row in staying else movers.pop() for row in range(count)]
