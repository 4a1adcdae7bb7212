"""A part while it is open: its rows, and the responses so far."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from batchgen.input.sources import Chunk
from batchgen.output.schema import UnchangedRows
from batchgen.records import Response
from batchgen.run.requests import PendingRow


class PreparationStoppedError(Exception):
    """The run is to stop before all rows of a part are prepared; the next start prepares them again."""


class OpenPart:
    """One part between reading and sealing.

    Attributes:
        rows: those that need responses.
        unchanged: the other rows, with their answers in an earlier run.
        expected: the number of responses that `rows` need.
    """

    def __init__(
        self, chunk: Chunk, rows: Sequence[PendingRow], unchanged: UnchangedRows | None = None
    ) -> None:
        self.number = chunk.number
        self.first = chunk.first
        self.stop = chunk.first + len(chunk.ids)
        self.table: pa.Table = chunk.table
        self.redacted = chunk.redacted
        self.rows = rows
        self.unchanged = unchanged
        self._by_index = {row.index: row for row in rows}
        self.expected = sum(len(row.seeds) for row in rows)
        self._responses: dict[tuple[int, int], Response] = {}

    def row(self, index: int) -> PendingRow:
        return self._by_index[index]

    def restore(self, responses: Iterable[Response]) -> None:
        """Add saved responses; those to another prompt, or with other settings, are ignored.

        Whether they have their prompt is up to the job as it is now, like the other columns.
        """
        for response in responses:
            row = self.row(response.index)
            if response.row_fingerprint == row.row_fingerprint:
                self.add(replace(response, messages=row.messages))

    def add(self, response: Response) -> None:
        self._responses[response.index, response.sample] = response

    def add_missing(self, responses: Iterable[Response]) -> list[Response]:
        """Add only those responses that are missing, and return them."""
        added = [r for r in responses if self.lacks(r.index, r.sample)]
        for response in added:
            self.add(response)
        return added

    def lacks(self, index: int, sample: int) -> bool:
        return (index, sample) not in self._responses

    def pending_rows(self) -> list[PendingRow]:
        return [r for r in self.rows if any(self.lacks(r.index, n) for n in range(len(r.seeds)))]

    @property
    def complete(self) -> bool:
        return len(self._responses) == self.expected

    def responses(self) -> list[Response]:
        return [self._responses[key] for key in sorted(self._responses)]
