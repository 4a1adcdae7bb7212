"""The columns of the output; their types do not depend on the rows of a part."""

import polars as pl
import pyarrow as pa
import pytest

from batchgen.job.spec import Columns, Input, Output
from batchgen.output.schema import ANSWER_COLUMNS, OutputLayout, column_conflicts, output_layout


def input_with(**columns: str) -> Input:
    return Input(path="x", columns=Columns.model_validate(columns))


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
        pytest.param(("ID", "q"), {"id": "ID"}, {}, "ID", ("q",), id="ID is consumed"),
        pytest.param(
            ("Messages", "q"),
            {"messages": "Messages"},
            {},
            None,
            ("q",),
            id="Messages are consumed",
        ),
        pytest.param(("q", "Q"), {}, {"keep_columns": ("Q",)}, None, ("Q",), id="one of two twins"),
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
        pytest.param(("q", "Response"), {}, "output.prefix", "Response", id="clash but for case"),
        pytest.param(("ID", "q"), {}, "output.prefix", "ID", id="ID is not the id column"),
        pytest.param(
            ("q", "bg_Seed"), {"prefix": "BG_"}, "output.prefix", "bg_Seed", id="case in prefixes"
        ),
        pytest.param(("Text", "text"), {}, "output.keep_columns", "Text and text", id="twins"),
        pytest.param(
            ("Straße", "STRASSE"), {}, "output.keep_columns", "Straße", id="twins beyond ASCII"
        ),
        pytest.param(
            ("Ω\u0301", "ώ"), {}, "output.keep_columns", "ώ", id="twins in another Unicode form"
        ),
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


def test_the_hint_names_the_id_column_only_if_there_is_none() -> None:
    spec = Output(path="o")
    (found,) = column_conflicts(("ID", "q"), input_with(), spec, None)
    assert "input.columns.id: ID" in found.hint
    (found,) = column_conflicts(("ID", "q"), input_with(id="q"), spec, "q")
    assert "input.columns.id" not in found.hint


def test_an_empty_part_has_the_same_types_as_a_full_one() -> None:
    layout = OutputLayout(("q",), "x_")
    schema = pa.schema([("q", pa.string())])
    table = layout.table(schema.empty_table(), [], first=0, run_id="r", redacted={})
    assert table.schema == layout.schema(schema)
    assert table.schema.names == ["q", *(f"x_{name}" for name in ANSWER_COLUMNS)]
    assert pl.from_arrow(table).width == len(ANSWER_COLUMNS) + 1  # type: ignore[union-attr]  # a table gives a frame
