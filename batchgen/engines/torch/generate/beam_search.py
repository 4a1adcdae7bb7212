"""Beam search through plain `model.generate`: prompts of equal length and settings at a time.

The `sample`-th answer of a row is its `sample`-th best beam, so one search gives all samples of a row. The search is
transformers' own, with its processors; stop strings end a beam like an end token.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from batchgen.decoding.stopping import StopSearch
from batchgen.decoding.upload import upload
from batchgen.engines.torch.answer_logprob import with_logprobs
from batchgen.engines.torch.completion_builder import (
    NONFINITE,
    CompletionBuilder,
    failed_completion,
)
from batchgen.engines.torch.generate.call import call_generate, group_by
from batchgen.engines.torch.model import LoadedModel
from batchgen.engines.torch.tier import TierOptions
from batchgen.records import AnswerDecoder, Completion, Request, ResolvedDecoding

_ENDED_SCORE = -1e9
"""Score of an ended beam, as in transformers."""


class BeamRunner:
    """Answers batches of requests with `num_beams` above 1."""

    name = "generate"

    def __init__(self, model: LoadedModel, options: TierOptions) -> None:
        self._model = model
        self._options = options
        self._stop: _BeamStop | None = None

    @property
    def new_tokens(self) -> int:
        """Those of the best beam of each row."""
        return self._stop.new_tokens if self._stop else 0

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for group in group_by(requests, lambda r: (repr(r.decoding), len(r.token_ids))):
            yield from self._search(group)
            if self._options.should_stop():
                return

    def _search(self, requests: list[Request]) -> Iterator[Completion]:
        decoding = requests[0].decoding
        alike = group_by(requests, lambda request: tuple(request.token_ids))
        prompts = [group[0].token_ids for group in alike]
        count = max(request.sample for request in requests) + 1
        watch = _Watch(decoding.num_beams)
        start = len(self._model.before_answer(prompts[0]))
        self._stop = stop = _BeamStop(start, len(requests), decoding, self._options)
        config = _config(decoding, count)
        tokens = call_generate(self._model, prompts, config, processor=watch, criterion=stop)
        self._stop = None
        if self._options.should_stop():
            # In an interrupted search an ended beam may not be the best one.
            return
        for number, group in enumerate(alike):
            beams = tokens[number * count : (number + 1) * count].tolist()
            for request in group:
                if number in watch.nonfinite:
                    yield failed_completion(request, NONFINITE)
                elif (done := self._read(request, beams[request.sample])) is not None:
                    yield done

    def _read(self, request: Request, beam: Sequence[int]) -> Completion | None:
        before = self._model.before_answer(request.token_ids)
        answer = CompletionBuilder(request, self._options.decode, before)
        for token_id in beam:
            if (reason := answer.add_token(token_id)) is None:
                continue
            return with_logprobs(self._model, request, answer.completion(reason))
        return None


class _Watch(LogitsProcessor):
    """Records rows with non-finite logits, and ends their beams."""

    def __init__(self, num_beams: int) -> None:
        self._num_beams = num_beams
        self.nonfinite: set[int] = set()

    def __call__(self, _input_ids: Tensor, scores: Tensor) -> Tensor:
        bad = ~scores.amax(-1).isfinite()
        rows = bad.nonzero()[:, 0].tolist()
        if not rows:
            return scores
        self.nonfinite.update(row // self._num_beams for row in rows)
        return scores.masked_fill(bad[:, None], _ENDED_SCORE)


class _BeamStop(StoppingCriteria):
    """Ends beams whose new text contains a stop string. Beams change at every step, so all are decoded again."""

    def __init__(
        self, start: int, rows: int, decoding: ResolvedDecoding, options: TierOptions
    ) -> None:
        self.new_tokens = 0
        self._start = start
        self._rows = rows
        self._decoding = decoding
        self._decode: AnswerDecoder = options.decode
        self._should_stop: Callable[[], bool] = options.should_stop

    def __call__(self, input_ids: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        self.new_tokens = self._rows * (input_ids.shape[1] - self._start)
        if self._should_stop():
            return torch.ones(len(input_ids), dtype=torch.bool, device=input_ids.device)
        done = [False] * len(input_ids)
        if self._decoding.stop_strings:
            done = [
                self._contains_stop(ids[: self._start], ids[self._start :])
                for ids in input_ids.tolist()
            ]
        return upload(torch.tensor(done), input_ids.device)

    def _contains_stop(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        text = self._decode(answer, prompt)
        return (
            StopSearch(self._decoding, self._decode, prompt).text_before(answer, text) is not None
        )


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
