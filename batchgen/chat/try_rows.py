"""A few rows of a job, answered on the screen."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from batchgen.chat.live_model import LiveModel
from batchgen.errors import DataError
from batchgen.records import Failure, Request
from batchgen.run.requests import PendingRow


@dataclass(frozen=True, slots=True)
class TriedRow:
    """A row, and its requests, one for each sample; none if it cannot be sent to the engine."""

    id: str
    requests: tuple[Request, ...]
    failure: Failure | None


def rows_to_try(model: LiveModel, *, id_: str | None, count: int) -> Iterator[TriedRow]:
    """The row with an id, or the first `count` rows.

    Raises:
        DataError: no row has that id.
    """
    pending = model.setup.pending_rows()
    if id_ is None:
        yield from (_tried(model, row) for row in islice(pending, count))
        return
    yield _tried(model, find_row(model, id_))


def find_row(model: LiveModel, id_: str) -> PendingRow:
    """The row with an id, rendered; DataError if there is none."""
    for row in model.setup.pending_rows():
        if row.id == id_:
            return row
    raise DataError(
        f"no row has the id {id_!r} among the rows that the job selects",
        hint="Use a value of the column input.columns.id, or a row number from 0 if there is none.",
    )


def _tried(model: LiveModel, row: PendingRow) -> TriedRow:
    failure = row.decoding if isinstance(row.decoding, Failure) else None
    return TriedRow(row.id, tuple(model.setup.request_builder.build_requests([row])), failure)
