"""How a prefill step is filled where cuts of rows must not depend on the batch."""

from collections.abc import Sequence

import pytest

from batchgen.planning.prefill_batch import PrefillBatch, StepLimits
from batchgen.planning.sequences import ScheduledSequence


def row(tokens: int, cached: int = 0, draws: int = 1) -> ScheduledSequence:
    return ScheduledSequence(0, [0] * tokens, tokens, 9, cached=cached, draws=draws)


@pytest.mark.parametrize(
    ("rows", "parts", "taken"),
    [
        # Rows that fit are taken whole; the first that does not fit ends the step.
        ([row(30), row(30), row(5)], 1, [30]),
        ([row(30), row(20), row(5)], 1, [30, 20]),
        # It begins the next part, if there is one.
        ([row(30), row(30), row(5)], 2, [30, 30, 5]),
        ([row(30), row(30), row(30), row(5)], 2, [30, 30]),
        # Long rows are cut at all multiples of 40 tokens, whatever was computed before.
        ([row(100)], 1, [40]),
        ([row(100, cached=40), row(10)], 1, [40, 10]),
        ([row(100, cached=80), row(10)], 1, [20, 10]),
        ([row(100, cached=25)], 1, [15]),
    ],
)
def test_rows_are_cut_at_places_that_depend_on_them_alone(
    rows: Sequence[ScheduledSequence], parts: int, taken: list[int]
) -> None:
    batch = PrefillBatch(StepLimits(8, 50 * parts, parts, cuts=40), 50)
    for one in rows:
        batch.add(one)
    assert [segment.count for segment in batch.segments()] == taken
    assert batch.open == (sum(taken) == sum(one.pending for one in rows) or len(rows) == 1)


def test_a_row_that_no_step_takes_whole_is_cut_where_the_step_ends() -> None:
    batch = PrefillBatch(StepLimits(8, 16, cuts=40), 16)
    batch.add(row(30))
    batch.add(row(3))
    assert [segment.count for segment in batch.segments()] == [16]
    batch = PrefillBatch(StepLimits(4, 50, cuts=40), 50)
    batch.add(row(30, draws=10))
    # Logits are limited: 20 tokens without them and four with them.
    assert [(s.count, s.drawn) for s in batch.segments()] == [(24, 4)]
