"""What a tier is: one way to run a model. `parity_probe.py` picks the fastest one that answers right.

    slots      continuous batching (not here yet); pulls requests by itself
    cohort     padded batches with finished rows dropped: `static_runner.py`
    generate   plain `model.generate`: `normalize.py`

Knows nothing of how a tier works.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from batchgen.engines.contract import Decode
from batchgen.engines.torch.token_chooser import BatchSampler, RequestSampler
from batchgen.records import Completion, Continuation, Likelihood, Request

SamplerFactory = Callable[[Sequence[Request], torch.device], BatchSampler]


@dataclass(frozen=True, slots=True)
class TierOptions:
    """What a tier needs besides the model.

    Attributes:
        decode: token ids to text.
        should_stop: asked between steps; when true, a tier returns and rows that run are not answered.
        padding_tokens: most padding that rows may carry through decode together. Each step reads it again;
            where that costs more than reading the weights for another batch, batches are the better choice.
        make_chooser: who chooses the tokens of a batch; the probe puts another one here.
    """

    decode: Decode
    should_stop: Callable[[], bool]
    padding_tokens: int
    make_chooser: SamplerFactory = RequestSampler


class Tier(Protocol):
    """Answers a stream of requests, pulling them when there is room."""

    @property
    def name(self) -> str:
        """The tier's name in `facts()`."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer all requests, in any order."""

    def facts(self) -> Mapping[str, object]:
        """What the tier decided and counted."""


class Likelihoods(Protocol):
    """Says how likely given continuations are."""

    def likelihoods(self, asked: Iterable[Continuation]) -> Iterator[Likelihood]:
        """See `Engine.likelihoods`."""


class BatchRunner(Protocol):
    """Answers one batch that is known to fit, or finds out that it does not."""

    @property
    def name(self) -> str:
        """The name of the tier that this makes."""

    def run(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one batch; may fail for want of memory before every row was yielded."""
