"""What a change of columns rejects: a part of other rows, and prompts that are not those that were answered."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from batchgen.errors import StateError
from batchgen.input.sources import Chunk
from batchgen.jobfile.load import load_job
from batchgen.output.column_change import AnsweredPrompt, ColumnChange
from batchgen.output.schema import ANSWER_COLUMNS, OutputLayout
from batchgen.records import Message
from batchgen.run.run import run
from batchgen.state.parts import LAST_COLUMN, answer_prefix

MakeJob = Callable[..., Path]
ROWS = [{"q": "a"}, {"q": "b"}]


@pytest.fixture
def part(make_job: MakeJob) -> pa.Table:
    """Answers without prompts."""
    job = load_job(make_job(ROWS, output={"store_prompt": False, "prefix": "x_"}))
    table: pa.Table = run(job).frame().to_arrow()
    return table


def chunk(*ids: str) -> Chunk:
    return Chunk(0, 0, pa.table({"q": list(ids)}), ids, {})


def change(*hashes: str) -> ColumnChange:
    prompts = [AnsweredPrompt(one, [Message("user", "hello")]) for one in hashes]
    return ColumnChange(OutputLayout(("q",), "y_"), 1, store_prompt=True, render=lambda *_: prompts)


def test_the_last_column_of_an_answer_gives_the_prefix(part: pa.Table) -> None:
    assert [*ANSWER_COLUMNS][-1] == LAST_COLUMN
    assert answer_prefix(part.schema) == "x_"


def test_answers_get_the_new_columns(part: pa.Table) -> None:
    hashes = part.column("x_prompt_hash").to_pylist()
    found = change(*hashes).apply(part, chunk("0", "1"))
    assert found.schema.names == list(OutputLayout(("q",), "y_").names)
    assert found.column("q").to_pylist() == ["0", "1"]
    assert found.column("y_messages").to_pylist() == [[{"role": "user", "content": "hello"}]] * 2
    assert found.column("y_response").to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("ids", "hashes", "problem"),
    [
        (("0",), 1, "part 0 of the saved answers does not belong to these rows"),
        (("1", "0"), 2, "part 0 of the saved answers does not belong to these rows"),
        (("0", "1"), 0, "the prompt of row 0 is rendered differently now"),
    ],
)
def test_other_rows_and_prompts_are_rejected(
    part: pa.Table, ids: tuple[str, ...], hashes: int, problem: str
) -> None:
    known = part.column("x_prompt_hash").to_pylist()[:hashes] or ["other", "hashes"]
    with pytest.raises(StateError, match=problem):
        change(*known).apply(part, chunk(*ids))
