"""A few rows of a job, answered on the screen."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from batchgen.chat.live_model import LiveAnswer, LiveModel, Show
from batchgen.errors import DataError
from batchgen.records import Failure, Response, Row
from batchgen.run.requests import PendingRow


@dataclass(frozen=True, slots=True)
class TriedRow:
    """A row, or the turns of a conversation, which are asked one after the other.

    Attributes:
        rows: one, or the turns in order.
        failures: why rows of the input cannot be read, by index.
    """

    rows: tuple[Row, ...]
    failures: Mapping[int, Failure]


@dataclass(slots=True)
class TriedSample:
    """One sample of a row, or of a conversation. Iterate over its turns, and answer each one before the next.

    Attributes:
        responses: to the turns so far; the conversation ends with a turn that is interrupted.
    """

    model: LiveModel
    tried: TriedRow
    sample: int
    responses: list[Response] = field(default_factory=list)

    def __iter__(self) -> Iterator[PendingRow]:
        builder = self.model.setup.request_builder
        for number, row in enumerate(self.tried.rows):
            if len(self.responses) < number:
                return
            if number:
                yield builder.prepare_later(row, self.responses)
            else:
                yield builder.prepare_rows([row], self.tried.failures)[0]

    def answer(self, row: PendingRow, show: Show) -> LiveAnswer:
        """Answer a turn; `show` receives the text in pieces."""
        setup = self.model.setup
        if isinstance(row.decoding, Failure):
            response = setup.response_builder.failed_response(row, self.sample, row.decoding)
            self.responses.append(response)
            return LiveAnswer("", 0, "error", row.decoding)
        request = setup.request_builder.build_request(row, self.sample)
        answer = self.model.answer(request, show)
        if answer.completion is not None:
            self.responses.append(setup.response_builder.build_response(row, answer.completion))
        return answer


def rows_to_try(model: LiveModel, *, id_: str | None, count: int) -> Iterator[TriedRow]:
    """The first `count` rows or conversations, or those with an id.

    The id of a conversation names all its turns, that of a turn those up to this one.

    Raises:
        DataError: no row has that id.
    """
    if id_ is None:
        yield from islice(_tried_rows(model), count)
        return
    yield find_row(model, id_)


def find_row(model: LiveModel, id_: str) -> TriedRow:
    """The row or the conversation with an id, see `rows_to_try`; DataError if there is none."""
    for tried in _tried_rows(model):
        ids = [row.id for row in tried.rows]
        if id_ in ids:
            return TriedRow(tried.rows[: ids.index(id_) + 1], tried.failures)
        if len(ids) > 1 and ids[0] == f"{id_}/1":
            return tried
    raise DataError(
        f"no row has the id {id_!r} among the rows that the job selects",
        hint="Use a value of the column input.columns.id, or a row number from 0 if there is none.",
    )


def _tried_rows(model: LiveModel) -> Iterator[TriedRow]:
    setup = model.setup
    for chunk in setup.chunks(rows=setup.job.batching.part_rows):
        talk: list[Row] = []
        for row in chunk.rows():
            if talk and not setup.request_builder.waits(row):
                yield TriedRow(tuple(talk), chunk.failures)
                talk = []
            talk.append(row)
        yield TriedRow(tuple(talk), chunk.failures)
