"""The interface of a tier, one way to run a model. `tier_selection.py` selects the fastest correct one.

continuous   continuous batching: rows enter and leave at every step: `continuous_tier.py`
static       padded batches; finished rows leave: `static_runner.py`
generate     plain `model.generate`: `generate_runner.py`
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch

from batchgen.engines.torch.structured.row_masks import RowMasks
from batchgen.engines.torch.token_chooser import BatchSampler, RequestSampler
from batchgen.records import AnswerDecoder, Completion, Continuation, InFlight, Likelihood, Request


class NoText:
    """The decoder of a probe, whose answers have tokens only."""

    special_tokens: Mapping[int, str] = MappingProxyType({})

    def __call__(
        self, token_ids: Sequence[int], prompt: Sequence[int] = (), *, special: bool = False
    ) -> str:
        del token_ids, prompt, special
        return ""

    def decode_complete(self, token_ids: Sequence[int], prompt: Sequence[int] = ()) -> str:
        return self(token_ids, prompt)

    def tokenizer_json(self) -> None:
        """None."""


SamplerFactory = Callable[[Sequence[Request], torch.device], BatchSampler]


@dataclass(frozen=True, slots=True)
class TierOptions:
    """Options of a tier.

    Attributes:
        should_stop: checked between steps; when true, a tier returns without completing running rows.
        padding_tokens: most padding in one decode batch. Each step reads the padding again; beyond this limit
            that costs more than reading the weights for another batch.
        make_sampler: makes the sampler of a batch; the probe uses another one.
        masks: of rows with a grammar; None if there can be none.
    """

    decode: AnswerDecoder
    should_stop: Callable[[], bool]
    padding_tokens: int
    make_sampler: SamplerFactory = RequestSampler
    masks: RowMasks | None = None


class Tier(Protocol):
    """Answers a stream of requests; pulls them as capacity allows."""

    @property
    def name(self) -> str: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]: ...

    def in_flight(self) -> InFlight:
        """See `Engine`."""

    def facts(self) -> Mapping[str, object]: ...


class Likelihoods(Protocol):
    """Computes log-probabilities of given continuations."""

    def likelihoods(self, continuations: Iterable[Continuation]) -> Iterator[Likelihood]: ...


class BatchRunner(Protocol):
    """Answers one batch."""

    @property
    def name(self) -> str: ...

    @property
    def new_tokens(self) -> int:
        """New tokens so far of the unfinished rows of the batch that runs now; read from another thread."""

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one batch; may run out of memory before every row is yielded."""
