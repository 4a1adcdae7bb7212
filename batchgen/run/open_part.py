"""A part while it is open: which rows it has, and the answers that are in.

    Chunk ──> OpenPart ──requests──> engine ──completion──> keep ──> complete? ──> responses
                 └──── restore: answers of an earlier start

A row that fails before it reaches the engine is answered at once. Knows nothing of engines, files or progress.
"""

from collections.abc import Iterable

import pyarrow as pa

from batchgen.input.sources import Chunk
from batchgen.planning.batches import sort_by_length
from batchgen.records import Completion, Failure, Request, Response
from batchgen.run.requests import PendingRow, RequestBuilder


class OpenPart:
    """One part between reading and sealing."""

    def __init__(self, chunk: Chunk, asking: RequestBuilder) -> None:
        self.number = chunk.number
        self.first = chunk.first
        self.stop = chunk.first + len(chunk.ids)
        self.rows: pa.Table = chunk.table
        self.redacted = chunk.redacted
        self.refused = 0
        self._asking = asking
        self._asked = asking.ask(chunk.rows(asking.columns), chunk.failures)
        self._responses: dict[tuple[int, int], Response] = {}

    def restore(self, responses: Iterable[Response]) -> None:
        """Take answers that an earlier start of this run got, if they are answers to the same question."""
        for response in responses:
            asked = self._asked[response.index - self.first]
            if response.row_fingerprint == asked.row_fingerprint:
                self._responses[response.index, response.sample] = response

    def unanswered(self) -> list[PendingRow]:
        """The rows that have not all their answers yet."""
        samples = range(self._asking.samples)
        return [a for a in self._asked if any((a.index, n) not in self._responses for n in samples)]

    def requests(self) -> list[Request]:
        """The requests of this part in the order the engine should take them; none for rows answered already."""
        requests: list[Request] = []
        for asked in self._asked:
            if isinstance(asked.settings, Failure):
                self.refuse(asked.index, asked.settings)
            else:
                requests.extend(self._asking.requests(asked, asked.settings))
        requests = [r for r in requests if (r.index, r.sample) not in self._responses]
        return sort_by_length(requests) if self._asking.job.batching.sort == "length" else requests

    def keep(self, completion: Completion) -> Response:
        """Book an answer, and return what is to be stored of it."""
        asked = self._asked[completion.index - self.first]
        response = self._asking.answered(asked, completion)
        self._responses[completion.index, completion.sample] = response
        return response

    @property
    def complete(self) -> bool:
        """Whether every row has all its answers."""
        return len(self._responses) == len(self._asked) * self._asking.samples

    def responses(self) -> list[Response]:
        """The answers that are in, by row, then sample."""
        return [self._responses[key] for key in sorted(self._responses)]

    def refuse(self, index: int, failure: Failure) -> list[Response]:
        """Book a failure for each answer of a row that the engine is not asked about; those it has are kept."""
        asked = self._asked[index - self.first]
        missing = [n for n in range(self._asking.samples) if (index, n) not in self._responses]
        refusals = [self._asking.refused(asked, sample, failure) for sample in missing]
        self._responses.update({(index, r.sample): r for r in refusals})
        self.refused += len(refusals)
        return refusals
