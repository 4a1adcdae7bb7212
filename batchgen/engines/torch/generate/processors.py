"""Makes `model.generate` sample and stop like the other tiers: a logits processor and a stopping criterion.

    SamplingProcessor     scores -> our penalties and sampler -> every token except the chosen one is -inf
    CompletionCriteria    adds that token to the answer; decides which rows are done

Greedy search of `generate` then takes the chosen token, so an answer does not depend on the tier.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopHLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
    WatermarkingConfig,
)

from batchgen.decoding.generation_kwargs import SAMPLING
from batchgen.decoding.upload import upload
from batchgen.engines.torch.completion_builder import CompletionBuilder
from batchgen.engines.torch.token_chooser import BatchSampler, SampledBatch
from batchgen.records import Completion, ResolvedDecoding

LATE = SAMPLING | {"watermarking_config"}
"""Fields of `GenerationConfig` that apply after temperature, top_k, top_p and min_p."""


class SamplingProcessor(LogitsProcessor):
    """Sets every token except the chosen one to -inf. Must be the last processor."""

    def __init__(self, sampler: BatchSampler, warpers: LogitsProcessorList) -> None:
        """`warpers`: applied before `sampler`; see `late_warpers`."""
        self._sampler = sampler
        self._warpers = warpers
        self.last: SampledBatch | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [rows, vocab] with 0 at the chosen token and -inf elsewhere."""

        def warp(raw: Tensor) -> Tensor:
            return self._warpers(cast(torch.LongTensor, input_ids), cast(torch.FloatTensor, raw))

        self.last = self._sampler.sample(scores, warp if self._warpers else None)
        chosen = torch.full_like(scores, -torch.inf)
        return chosen.scatter_(1, self.last.tokens[:, None], 0.0)


class CompletionCriteria(StoppingCriteria):
    """Adds the chosen tokens to the answers; a row is done with its answer, all rows when the run should stop."""

    def __init__(
        self,
        processor: SamplingProcessor,
        answers: Sequence[CompletionBuilder],
        should_stop: Callable[[], bool],
    ) -> None:
        self._processor = processor
        self._answers = answers
        self._should_stop = should_stop
        self._done: dict[int, Completion] = {}

    def __call__(self, input_ids: Tensor, *_args: object, **_kwargs: object) -> Tensor:
        sampled = self._processor.last
        if sampled is not None:
            for row, answer in enumerate(self._answers):
                if row not in self._done and (done := answer.add_sampled(sampled, row)):
                    self._done[row] = done
        stop = self._should_stop()
        ended = [stop or row in self._done for row in range(len(self._answers))]
        return upload(torch.tensor(ended), input_ids.device)

    def completions(self) -> list[Completion]:
        return list(self._done.values())


def late_warpers(
    decoding: ResolvedDecoding, vocab_size: int, device: torch.device
) -> LogitsProcessorList:
    """Transformers' own warpers, in its order, if one of them has no equivalent here; otherwise an empty list.

    Our sampler then samples from their result, with the settings of `plain_draw`.
    """
    own: dict[str, Any] = dict(decoding.generation_kwargs)
    warpers = LogitsProcessorList()
    if not LATE & own.keys():
        return warpers
    if not decoding.greedy:
        stages: list[tuple[bool, Callable[[], LogitsProcessor]]] = [
            (True, lambda: TemperatureLogitsWarper(decoding.temperature)),
            ("top_h" in own, lambda: TopHLogitsWarper(own["top_h"])),
            (decoding.top_k > 0, lambda: TopKLogitsWarper(decoding.top_k)),
            (decoding.top_p < 1, lambda: TopPLogitsWarper(decoding.top_p)),
            (decoding.min_p > 0, lambda: MinPLogitsWarper(decoding.min_p)),
            ("typical_p" in own, lambda: TypicalLogitsWarper(own["typical_p"])),
            ("epsilon_cutoff" in own, lambda: EpsilonLogitsWarper(own["epsilon_cutoff"])),
            ("eta_cutoff" in own, lambda: EtaLogitsWarper(own["eta_cutoff"], device=str(device))),
        ]
        warpers.extend(make() for wanted, make in stages if wanted)
    if "watermarking_config" in own:
        watermark = WatermarkingConfig(**own["watermarking_config"])
        warpers.append(watermark.construct_processor(vocab_size, device))
    return warpers


def plain_draw(decoding: ResolvedDecoding) -> ResolvedDecoding:
    """The settings for scores to which `late_warpers` are applied already."""
    if decoding.greedy:
        return decoding
    return replace(decoding, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
