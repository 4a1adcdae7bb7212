"""The columns of the output; their types do not depend on the rows of a part."""

import polars as pl
import pyarrow as pa
import pytest

from batchgen.job.spec import Columns, Input, Output
from batchgen.output.schema import ANSWER_COLUMNS, OutputLayout, column_conflicts, output_layout


def input_with(**columns: str) -> Input:
    return Input(path="x", columns=Columns(**columns))


@pytest.mark.parametrize(
    ("columns", "named", "output", "id_column", "kept"),
    [
        pytest.param(("q", "n"), {}, {}, None, ("q", "n"), id="everything is kept"),
        pytest.param(("id", "q"), {}, {}, "id", ("q",), id="id is consumed"),
        pytest.param(
            ("key", "q"),
            {"id": "key"},
            {},
            "key",
            ("key", "q"),
            id="a named id without a clash stays",
        ),
        pytest.param(
            ("messages", "q"),
            {"messages": "messages"},
            {},
            None,
            ("q",),
            id="messages are consumed",
        ),
        pytest.param(("q", "n"), {}, {"keep_columns": ("n",)}, None, ("n",), id="some"),
        pytest.param(("q", "n"), {}, {"keep_columns": "none"}, None, (), id="none"),
        pytest.param(
            ("id", "response"),
            {},
            {"prefix": "bg_"},
            "id",
            ("id", "response"),
            id="a prefix ends clashes",
        ),
    ],
)
def test_kept_columns(
    columns: tuple[str, ...],
    named: dict[str, str],
    output: dict[str, object],
    id_column: str | None,
    kept: tuple[str, ...],
) -> None:
    spec = Output(path="o", **output)  # type: ignore[arg-type]  # rows of the table above
    assert column_conflicts(columns, input_with(**named), spec, id_column) == []
    assert output_layout(columns, input_with(**named), spec, id_column).kept == kept


@pytest.mark.parametrize(
    ("columns", "output", "key", "message"),
    [
        pytest.param(("q", "response"), {}, "output.prefix", "response", id="clash"),
        pytest.param(("q", "seed", "error"), {}, "output.prefix", "seed, error", id="two clashes"),
        pytest.param(("q",), {"keep_columns": ("z",)}, "output.keep_columns", "'z'", id="unknown"),
    ],
)
def test_schema_mismatches_name_the_columns(
    columns: tuple[str, ...], output: dict[str, object], key: str, message: str
) -> None:
    found = column_conflicts(columns, input_with(), Output(path="o", **output), None)  # type: ignore[arg-type]  # as above
    assert [m.key for m in found] == [key]
    assert message in found[0].message
    assert found[0].hint


def test_an_empty_part_has_the_same_types_as_a_full_one() -> None:
    layout = OutputLayout(("q",), "x_")
    schema = pa.schema([("q", pa.string())])
    table = layout.table(schema.empty_table(), [], first=0, run_id="r", redacted={})
    assert table.schema == layout.schema(schema)
    assert table.schema.names == ["q", *(f"x_{name}" for name in ANSWER_COLUMNS)]
    assert pl.from_arrow(table).width == len(ANSWER_COLUMNS) + 1  # type: ignore[union-attr]  # a table gives a frame
