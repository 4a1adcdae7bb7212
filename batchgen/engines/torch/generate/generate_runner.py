"""The tier for any model: plain `model.generate` for rows that can share a call.

    padded         prompts of any length, padded on the left (for an encoder on the right)
    same length    only prompts of one length, for models whose padded answers differ, such as BLOOM
    single         one row at a time

Limits of this tier: rows are returned when the whole call is done, and a finished row is computed until the last one
ends. Beam search is in `beam_search.py`.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from batchgen.engines.torch.answer_logprob import with_logprobs
from batchgen.engines.torch.completion_builder import CompletionBuilder
from batchgen.engines.torch.generate.call import call_generate, group_by
from batchgen.engines.torch.generate.processors import (
    LATE,
    CompletionCriteria,
    SamplingProcessor,
    late_warpers,
    plain_draw,
)
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.tier import TierOptions
from batchgen.records import Completion, Request, ResolvedDecoding

Grouping = Literal["padded", "same length", "single"]


class GenerateRunner:
    """Answers batches with `model.generate`; our own sampler chooses each token."""

    name = "generate"

    def __init__(self, model: LoadedModel, options: TierOptions, grouping: Grouping) -> None:
        self._model = model
        self._options = options
        self._grouping = grouping
        self._running: Sequence[CompletionBuilder] = ()

    @property
    def new_tokens(self) -> int:
        return sum(answer.new_tokens for answer in self._running)

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for group in group_by(requests, self._key):
            yield from self._call(group)
            if self._options.should_stop():
                return

    def _key(self, request: Request) -> Hashable:
        """Requests with the same key share a call: same config, and prompts that can be batched."""
        decoding = request.decoding
        together: Hashable = {
            "padded": len(request.token_ids) if self._model.may_switch(request) else None,
            "same length": len(request.token_ids),
            "single": (request.index, request.sample),
        }[self._grouping]
        late = _late(decoding) and repr(replace(decoding, max_new_tokens=0))
        return decoding.end_token_ids, repr(decoding.generation_kwargs), late, together

    def _call(self, requests: list[Request]) -> Iterator[Completion]:
        first = requests[0].decoding
        device = self._model.device
        sampled = [self._without_late_settings(request) for request in requests]
        sampler = self._options.make_sampler(sampled, device)
        processor = SamplingProcessor(sampler, late_warpers(first, self._model.vocab_size, device))
        answers = [
            CompletionBuilder(request, self._options.decode, before.token_ids)
            for request, before in zip(requests, sampled, strict=True)
        ]
        criteria = CompletionCriteria(processor, answers, self._options.should_stop)
        own = {name: value for name, value in first.generation_kwargs if name not in LATE}
        config = {
            **own,
            "do_sample": False,
            "max_new_tokens": max(request.decoding.max_new_tokens for request in requests),
            "eos_token_id": sorted(first.end_token_ids) or None,
        }
        prompts = [request.token_ids for request in requests]
        self._running = answers
        call_generate(self._model, prompts, config, processor=processor, criterion=criteria)
        self._running = ()
        by_key = {(r.index, r.sample): r for r in requests}
        for completion in criteria.completions():
            if own:
                # `own` changed the scores before our processor saw them.
                request = by_key[completion.index, completion.sample]
                completion = with_logprobs(self._model, request, completion)
            yield completion

    def _without_late_settings(self, request: Request) -> Request:
        """The request for the sampler: tokens before the answer, and settings that are not applied yet."""
        decoding = plain_draw(request.decoding) if _late(request.decoding) else request.decoding
        before = self._model.before_answer(request.token_ids)
        return replace(request, token_ids=before, decoding=decoding)


def _late(decoding: ResolvedDecoding) -> bool:
    return bool(LATE & dict(decoding.generation_kwargs).keys())
