"""What every engine is: requests are pulled in, completions come out in whatever order they finish.

An engine takes a request when it has room for it. Static batches, continuous batching and an engine without a
model are then the same verb, and the next part's rows flow in while the long rows of this one finish. An engine
knows nothing of rows, files or jobs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from batchgen.planning.batches import BatchLimits
from batchgen.planning.slot_plan import Workers
from batchgen.records import Completion, Continuation, Likelihood, Request

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, special tokens left out."""


class Engine(Protocol):
    """Answers requests. Every request ends in exactly one completion; a request that fails takes no other down."""

    @property
    def name(self) -> str:
        """The engine's name in the job file."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Answer all requests.

        The iterable is pulled only when there is room. Closing the iterator stops the engine at a step
        boundary; rows that were running are then simply not answered.
        May be called again once it has ended: after a crash, suspect rows are asked in calls of their own.
        """

    def likelihoods(self, asked: Iterable[Continuation]) -> Iterator[Likelihood]:
        """Say how likely each continuation is after its context. Every one ends in exactly one likelihood, in any order.

        What one is told does not depend on the others but for the rounding of the model's dtype: not on their order, nor on
        what shares its computation. It is what the model's own forward over that row alone says, to within 1e-5 a token
        wherever rounding is smaller. The tokens of a context are computed once for all its continuations that arrive
        close together, where the engine's tier can do that. Whether a row fits the model's context window is for the
        asker to see to. Pulling and closing are as with `generate`, and only one of the two runs at a time.
        """

    def facts(self) -> Mapping[str, object]:
        """What decided the text or the speed: tier, dtype, device, budget, counts. Plain values, for the manifest."""

    def close(self) -> None:
        """Give memory back."""


@dataclass(frozen=True, slots=True)
class SlotEstimate:
    """What continuous batching would take.

    Attributes:
        rows: most rows at a time.
        row_tokens: that keys and values of rows have room for.
        prefix_tokens: the same for shared beginnings.
    """

    rows: int
    row_tokens: int
    prefix_tokens: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an engine would take, found without loading a weight. Sizes are bytes; all 0 without a model.

    Where each of several workers has a GPU, all but `workers` is of the first one.

    Attributes:
        limits: what a padded batch may hold.
        free_bytes: free on the device now.
        workers: processes that compute side by side.
        tier: as an earlier run found it; None before the first, which decides when the model is loaded.
        packed_bytes: of a second copy of the weights, made for faster products.
        slots: what continuous batching takes; None where the model is answered in padded batches.
    """

    device: str
    dtype: str
    weight_bytes: int
    kv_bytes_per_token: int
    free_bytes: int
    limits: BatchLimits
    workers: Workers
    tier: str | None = None
    packed_bytes: int = 0
    slots: SlotEstimate | None = None
