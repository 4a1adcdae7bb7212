"""A part between reading and sealing: restored rows, missing rows, completeness."""

from dataclasses import replace

import pyarrow as pa
import pytest

from batchgen.input.sources import Chunk
from batchgen.privacy.redact import Redactor, placeholder
from batchgen.records import Completion, ResolvedDecoding, Response
from batchgen.run.open_part import OpenPart
from batchgen.run.requests import PendingRow
from batchgen.run.responses import ResponseBuilder

RESPONSES = ResponseBuilder(
    "inline",
    reasoning_opened=False,
    redactor=Redactor((), placeholder),
    seeds=True,
    token_text=str,
)
FIRST = 20


def row(index: int) -> PendingRow:
    fingerprint = f"row {index}"
    return PendingRow(index, str(index), (), [1], ResolvedDecoding(), "", fingerprint, (0, 1), None)


ROWS = [row(FIRST), row(FIRST + 1)]


def response(index: int, sample: int, text: str = "x") -> Response:
    return RESPONSES.build_response(
        ROWS[index - FIRST], Completion(index, sample, [5], text, "stop")
    )


@pytest.fixture
def part() -> OpenPart:
    table = pa.table({"q": ["a", "b"]})
    return OpenPart(Chunk(2, FIRST, table, ("20", "21"), {}), ROWS)


def test_a_part_is_complete_with_all_samples_of_all_rows(part: OpenPart) -> None:
    for index, sample in [(21, 1), (20, 0), (21, 0)]:
        part.add(response(index, sample))
        assert not part.complete
    assert part.pending_rows() == [ROWS[0]]
    part.add(response(20, 1))
    assert part.complete
    assert part.pending_rows() == []
    assert [(r.index, r.sample) for r in part.responses()] == [(20, 0), (20, 1), (21, 0), (21, 1)]


def test_only_answers_to_an_unchanged_row_are_restored(part: OpenPart) -> None:
    part.restore([response(20, 0), replace(response(21, 0), row_fingerprint="another prompt")])
    assert not part.lacks(20, 0)
    assert part.lacks(21, 0)


def test_existing_answers_are_not_replaced_by_failures(part: OpenPart) -> None:
    part.add(response(20, 0, "kept"))
    added = part.add_missing([response(20, 0, "lost"), response(20, 1, "new")])
    assert [r.response for r in added] == ["new"]
    assert [r.response for r in part.responses()] == ["kept", "new"]
