"""A part while it is open: its rows, and the responses so far.

A row of a conversation's first turn has one prompt for all samples. That of a later turn has one for each sample, which is
rendered when all earlier turns of the row have a response.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from batchgen.input.sources import Chunk
from batchgen.output.schema import UnchangedRows
from batchgen.prompts.render import turn_of
from batchgen.records import Request, Response, Row
from batchgen.run.requests import PendingRow


class PreparationStoppedError(Exception):
    """The run is to stop before all rows of a part are prepared; the next start prepares them again."""


@dataclass(frozen=True, slots=True)
class LaterTurns:
    """Rows that are asked after the answers to the rows before them.

    Attributes:
        rows: by index, ascending; the turns before a row have the indices before its own.
        prepare: makes the prompt of a row from the responses to the turns before it.
        samples: answers of each row.
    """

    rows: Mapping[int, Row] = field(default_factory=dict)
    prepare: Callable[[Row, Sequence[Response]], PendingRow] | None = None
    samples: int = 0


NO_LATER_TURNS = LaterTurns()


class OpenPart:
    """One part between reading and sealing.

    Attributes:
        rows: those that need responses, without later turns.
        unchanged: the other rows, with their answers in an earlier run.
        expected: the number of responses that `rows` and later turns need.
    """

    def __init__(
        self,
        chunk: Chunk,
        rows: Sequence[PendingRow],
        unchanged: UnchangedRows | None = None,
        later: LaterTurns = NO_LATER_TURNS,
    ) -> None:
        self.number = chunk.number
        self.first = chunk.first
        self.stop = chunk.first + len(chunk.ids)
        self.table: pa.Table = chunk.table
        self.redacted = chunk.redacted
        self.rows = rows
        self.unchanged = unchanged
        self._by_index = {row.index: row for row in rows}
        self.expected = sum(len(row.seeds) for row in rows) + len(later.rows) * later.samples
        self._responses: dict[tuple[int, int], Response] = {}
        self._later = later
        self._later_rows: dict[tuple[int, int], PendingRow] = {}

    def row(self, index: int, sample: int) -> PendingRow | None:
        """A row that needs responses; None for a turn that cannot be asked yet."""
        if (first := self._by_index.get(index)) is not None:
            return first
        known = self._later_rows.get((index, sample))
        row, prepare = self._later.rows.get(index), self._later.prepare
        if known is not None or row is None or prepare is None:
            return known
        turns = range(index - turn_of(row) + 1, index)
        earlier = [self._responses.get((turn, sample)) for turn in turns]
        given = [response for response in earlier if response is not None]
        if len(given) < len(earlier):
            return None
        made = self._later_rows[index, sample] = prepare(row, given)
        return made

    def conversation(self, index: int) -> range:
        """The indices of a row and of the turns after it."""
        stop = index + 1
        while stop in self._later.rows:
            stop += 1
        return range(index, stop)

    def next_turn(self, index: int, sample: int) -> PendingRow | None:
        """The turn after a row, which has a response; None if the conversation ends with it."""
        return self.row(index + 1, sample) if index + 1 in self._later.rows else None

    def in_conversation(self, request: Request) -> Request:
        """A request with the turns before and after it that are asked of the model."""
        later, index = self._later.rows, request.index
        if not later:
            return request
        follows = index - 1 if index in later else None
        return replace(request, follows=follows, is_followed=index + 1 in later)

    def restore(self, responses: Iterable[Response]) -> int:
        """Add saved responses and return their number; those to another prompt, or with other settings, are ignored.

        Whether they have their prompt is up to the job as it is now, like the other columns.
        """
        added = 0
        for response in sorted(responses, key=lambda one: one.index):
            row = self.row(response.index, response.sample)
            if row is not None and response.row_fingerprint == row.row_fingerprint:
                self.add(replace(response, messages=row.messages))
                added += 1
        return added

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
        """The rows that can be asked and lack a response."""
        first = [r for r in self.rows if any(self.lacks(r.index, n) for n in range(len(r.seeds)))]
        return [*first, *(row for row, _ in self.later_turns())]

    def later_turns(self) -> Iterator[tuple[PendingRow, int]]:
        """The later turns that can be asked and lack a response, and the sample of each, in order.

        A turn that gets its response while this runs is followed by the next one.
        """
        for index in self._later.rows:
            for sample in range(self._later.samples):
                if self.lacks(index, sample) and (row := self.row(index, sample)) is not None:
                    yield row, sample

    @property
    def complete(self) -> bool:
        return len(self._responses) == self.expected

    def responses(self) -> list[Response]:
        return [self._responses[key] for key in sorted(self._responses)]
