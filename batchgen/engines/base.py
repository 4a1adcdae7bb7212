"""What every engine is: requests are pulled in, completions come out in whatever order they finish.

An engine takes a request when it has room for it. Static batches, continuous batching and an engine without a
model are then the same verb, and the next part's rows flow in while the long rows of this one finish. An engine
knows nothing of rows, files or jobs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from batchgen.planning.batches import BatchLimits
from batchgen.records import Completion, Request

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

    def facts(self) -> Mapping[str, object]:
        """What decided the text or the speed: tier, dtype, device, budget, counts. Plain values, for the manifest."""

    def close(self) -> None:
        """Give memory back."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an engine would take, found without loading a weight. Sizes are bytes; all 0 without a model.

    Attributes:
        limits: what a batch may hold.
        free_bytes: free on the device now.
    """

    device: str
    dtype: str
    weight_bytes: int
    kv_bytes_per_token: int
    free_bytes: int
    limits: BatchLimits
