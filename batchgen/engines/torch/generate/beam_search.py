"""Beam search through plain `model.generate`: prompts of equal length and settings at a time.

The `sample`-th answer of a row is its `sample`-th best beam, so one search gives all samples of a row. The search is
transformers' own, with its processors; stop strings end a beam like an end token.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from batchgen.engines.contract import Decode
from batchgen.engines.torch.answer_logprob import mean_logprob
from batchgen.engines.torch.completion_builder import (
    NONFINITE,
    CompletionBuilder,
    failed_completion,
)
from batchgen.engines.torch.generate.call import call_generate, group_by
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.tier import TierOptions
from batchgen.records import Completion, Request, ResolvedDecoding

_HOPELESS = -1e9
"""A score that ends a beam, the same as in transformers."""


class BeamRunner:
    """Answers batches of requests with `num_beams` above 1."""

    name = "generate"

    def __init__(self, model: LoadedModel, setting: TierOptions) -> None:
        self._model = model
        self._setting = setting

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one batch; see `BatchRunner`."""
        for group in group_by(requests, lambda r: (repr(r.decoding), len(r.token_ids))):
            yield from self._search(group)
            if self._setting.should_stop():
                return

    def _search(self, requests: list[Request]) -> Iterator[Completion]:
        decoding = requests[0].decoding
        alike = group_by(requests, lambda request: tuple(request.token_ids))
        prompts = [group[0].token_ids for group in alike]
        count = max(request.sample for request in requests) + 1
        watch = _Watch(decoding.num_beams)
        start = len(self._model.before_answer(prompts[0]))
        stop = _BeamStop(start, decoding.stop_strings, self._setting)
        config = _config(decoding, count)
        beams = call_generate(
            self._model, prompts, config, processor=watch, criterion=stop
        ).tolist()
        if self._setting.should_stop():
            # In an interrupted search an ended beam may not be the best one.
            return
        for number, group in enumerate(alike):
            found = beams[number * count : (number + 1) * count]
            for request in group:
                if number in watch.broken:
                    yield failed_completion(request, NONFINITE)
                elif (done := self._read(request, found[request.sample])) is not None:
                    yield done

    def _read(self, request: Request, beam: Sequence[int]) -> Completion | None:
        """The completion of a beam; None if it has no end."""
        answer = CompletionBuilder(request, self._setting.decode)
        for token_id in beam:
            reason = answer.take(token_id)
            if reason is not None:
                return self._with_logprob(request, answer.completion(reason))
        return None

    def _with_logprob(self, request: Request, completion: Completion) -> Completion:
        if not request.decoding.logprobs:
            return completion
        mean = mean_logprob(self._model, request.token_ids, completion.token_ids)
        return replace(completion, logprob_mean=mean)


class _Watch(LogitsProcessor):
    """Records rows with non-finite logits, and ends their beams."""

    def __init__(self, num_beams: int) -> None:
        self._num_beams = num_beams
        self.broken: set[int] = set()

    def __call__(self, _input_ids: Tensor, scores: Tensor) -> Tensor:
        bad = ~scores.amax(-1).isfinite()
        rows = bad.nonzero()[:, 0].tolist()
        if not rows:
            return scores
        self.broken.update(row // self._num_beams for row in rows)
        return scores.masked_fill(bad[:, None], _HOPELESS)


class _BeamStop(StoppingCriteria):
    """Ends beams whose new text contains a stop string; all beams when the run should stop.

    Beams are reordered at every step, so the new text of each is decoded again.
    """

    def __init__(self, start: int, stop_strings: Sequence[str], setting: TierOptions) -> None:
        self._start = start
        self._stop_strings = stop_strings
        self._decode: Decode = setting.decode
        self._should_stop: Callable[[], bool] = setting.should_stop

    def __call__(self, input_ids: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        if self._should_stop():
            return torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
        done = [False] * len(input_ids)
        if self._stop_strings:
            texts = [self._decode(ids) for ids in input_ids[:, self._start :].tolist()]
            done = [any(stop in text for stop in self._stop_strings) for text in texts]
        return torch.tensor(done, device=input_ids.device)


def _config(decoding: ResolvedDecoding, count: int) -> dict[str, object]:
    return {
        **dict(decoding.generation_kwargs),
        "do_sample": False,
        "num_beams": decoding.num_beams,
        "num_return_sequences": count,
        "length_penalty": decoding.length_penalty,
        "max_new_tokens": decoding.max_new_tokens,
        "min_new_tokens": decoding.min_new_tokens,
        "repetition_penalty": decoding.repetition_penalty,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "eos_token_id": sorted(decoding.end_token_ids) or None,
    }
