"""A part while it is open: which rows it has, and the answers that are in.

    Chunk ──> OpenPart ──requests──> engine ──completion──> keep ──> complete? ──> responses

A row that fails before it reaches the engine is answered at once. Knows nothing of engines, files or progress.
"""

import pyarrow as pa

from batchgen.data.sources import Chunk
from batchgen.planning.batches import by_length
from batchgen.records import Completion, Failure, Request, Response
from batchgen.runner.asking import Asking


class OpenPart:
    """One part between reading and sealing."""

    def __init__(self, chunk: Chunk, asking: Asking) -> None:
        self.number = chunk.number
        self.first = chunk.first
        self.rows: pa.Table = chunk.table
        self.redacted = chunk.redacted
        self.refused = 0
        self._asking = asking
        self._asked = asking.ask(chunk.rows(asking.columns), chunk.failures)
        self._responses: dict[tuple[int, int], Response] = {}

    def requests(self) -> list[Request]:
        """The requests of this part in the order the engine should take them."""
        requests: list[Request] = []
        for asked in self._asked:
            if isinstance(asked.settings, Failure):
                self._refuse(asked.index, asked.settings)
            else:
                requests.extend(self._asking.requests(asked, asked.settings))
        return by_length(requests) if self._asking.job.batching.sort == "length" else requests

    def keep(self, completion: Completion) -> None:
        """Book an answer."""
        asked = self._asked[completion.index - self.first]
        response = self._asking.answered(asked, completion)
        self._responses[completion.index, completion.sample] = response

    @property
    def complete(self) -> bool:
        """Whether every row has all its answers."""
        return len(self._responses) == len(self._asked) * self._asking.samples

    def responses(self) -> list[Response]:
        """The answers that are in, by row, then sample."""
        return [self._responses[key] for key in sorted(self._responses)]

    def _refuse(self, index: int, failure: Failure) -> None:
        asked = self._asked[index - self.first]
        for sample in range(self._asking.samples):
            self._responses[index, sample] = self._asking.refused(asked, sample, failure)
            self.refused += 1
