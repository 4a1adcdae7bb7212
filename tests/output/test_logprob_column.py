"""The column `logprobs`: what was recorded is read back, and other readers see a list of structs."""

from array import array

import polars as pl
import pyarrow as pa
import pytest

from batchgen.output.logprob_column import LOGPROBS, logprob_column, read_logprobs
from batchgen.records import TokenLogprobs

TWO_TOP = TokenLogprobs(
    width=3,
    logprobs=array("f", [-1, -0.5, -1, -2, -2, float("-inf")]),
    token_ids=array("i", [1, 2, 1, 5, 5, 7]),
    texts=("a", "b", "a", "e", "e", "g"),
)
WITHHELD = TokenLogprobs(2, array("f", [-1, -0.5]), array("i"))
NO_TOP = TokenLogprobs(1, array("f", [-1, -0.5]), array("i", [3, 4]), ("x", "\ufffd"))


@pytest.mark.parametrize(
    "answers", [[], [None], [TWO_TOP, None, WITHHELD, NO_TOP], [WITHHELD], [None, NO_TOP]]
)
def test_what_was_recorded_is_read_back(answers: list[TokenLogprobs | None]) -> None:
    column = logprob_column(answers)
    column.validate(full=True)
    assert column.type == LOGPROBS
    assert [read_logprobs(cell) for cell in column.to_pylist()] == answers


def test_polars_reads_the_fields() -> None:
    frame = pl.DataFrame(pl.from_arrow(pa.table({"logprobs": logprob_column([TWO_TOP, WITHHELD])})))
    tokens = frame.explode("logprobs").unnest("logprobs")
    assert tokens["token"].to_list() == ["a", "e", None]
    assert tokens["logprob"].to_list() == [-1, -2, -1]
    best = tokens["top_logprobs"].list.first().struct.unnest()
    assert best["token_id"].to_list() == [2, 5, None]
