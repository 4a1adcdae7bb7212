import pyarrow as pa
import pytest

from batchgen.arrow.nested_column import column_at, column_paths, split_path, type_at, value_at

SCHEMA = pa.schema(
    [
        ("body", pa.struct([("messages", pa.list_(pa.string())), ("a.b", pa.int64())])),
        ("text", pa.string()),
        ("x.y", pa.int64()),
    ]
)


@pytest.mark.parametrize(
    ("path", "column", "keys", "type_"),
    [
        ("body", "body", (), SCHEMA.field("body").type),
        ("body.messages", "body", ("messages",), pa.list_(pa.string())),
        ("body.messages.x", "body", ("messages", "x"), None),
        ("body.none", "body", ("none",), None),
        ("text.anything", "text", ("anything",), pa.string()),
        ("x.y", "x.y", (), pa.int64()),
        ("x", "x", (), None),
        ("none.messages", "none.messages", (), None),
    ],
)
def test_the_column_and_the_type_of_a_path(
    path: str, column: str, keys: tuple[str, ...], type_: pa.DataType | None
) -> None:
    assert split_path(path, SCHEMA.names) == (column, keys)
    assert type_at(SCHEMA, path) == type_


@pytest.mark.parametrize(
    ("fields", "path", "value"),
    [
        ({"body": {"messages": [1]}}, "body.messages", [1]),
        ({"body": '{"messages": [1]}'}, "body.messages", [1]),
        ({"body": {"inner": {"x": 5}}}, "body.inner.x", 5),
        ({"body.messages": 3, "body": {"messages": 4}}, "body.messages", 3),
        ({"body": None}, "body.messages", None),
        ({"body": "no json"}, "body.messages", None),
        ({"body": [1]}, "body.messages", None),
        ({"body": {}}, "body.messages", None),
    ],
)
def test_the_value_at_a_path(fields: dict[str, object], path: str, value: object) -> None:
    assert value_at(fields, path) == value


TABLE = pa.table(
    {
        "a": [{"b": {"c": 1}, "d": "x"}, None, {"b": None, "d": None}],
        "a.d": ["whole", "name", "first"],
        "n": [1, 2, 3],
    }
)


def test_paths_follow_their_columns() -> None:
    assert column_paths(TABLE.schema) == ["a", "a.b", "a.b.c", "a.d", "a.d", "n"]


def test_values_at_a_path_are_null_where_a_struct_is() -> None:
    assert column_at(TABLE, "a.b.c").to_pylist() == [1, None, None]
    assert column_at(TABLE, "a.d").to_pylist() == ["whole", "name", "first"]
    assert column_at(TABLE, "n") == TABLE.column("n")
    assert column_at(TABLE.slice(0, 0), "a.b.c").type == pa.int64()
