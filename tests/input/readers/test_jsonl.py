"""JSONL: column types that follow from the values of all lines."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.errors import DataError
from batchgen.input.sources import Chunk, open_source
from batchgen.job.spec import Input


def read(text: str | bytes, folder: Path, **settings: object) -> tuple[pa.Schema, list[Chunk]]:
    path = folder / "rows.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = open_source(Input.model_validate({"path": str(path), **settings}), seed=0)
    survey = source.survey()
    return survey.schema, list(source.chunks(survey, rows=1000))


def rows_of(chunks: Sequence[Chunk]) -> list[dict[str, object]]:
    return [row for chunk in chunks for row in chunk.table.to_pylist()]


TYPES: dict[str, tuple[list[object], pa.DataType, list[object]]] = {
    "text": (["a", None], pa.string(), ["a", None]),
    "whole numbers": ([1, -(2**63)], pa.int64(), [1, -(2**63)]),
    "whole numbers and fractions": ([1, 0.5], pa.float64(), [1.0, 0.5]),
    "fractions and whole numbers": ([0.5, None, 2], pa.float64(), [0.5, None, 2.0]),
    "true and false": ([True, None, False], pa.bool_(), [True, None, False]),
    "nothing": ([None, None], pa.string(), [None, None]),
    "lists": ([[1], [], None, [0.5]], pa.list_(pa.float64()), [[1.0], [], None, [0.5]]),
    "empty lists": ([[], None], pa.list_(pa.string()), [[], None]),
    "objects of different keys": (
        [{"a": 1}, {"b": "x"}],
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        [{"a": 1, "b": None}, {"a": None, "b": "x"}],
    ),
    "empty objects are kept as JSON": ([{}, None], pa.string(), ["{}", None]),
    "lists of empty objects": ([[{}], []], pa.string(), ["[{}]", "[]"]),
    "an empty object among others": ([{}, {"a": 1}], pa.struct([("a", pa.int64())]), [{"a": None}, {"a": 1}]),
    "numbers and text": ([5, "x", None, 0.5], pa.string(), ["5", "x", None, "0.5"]),
    "true and numbers": ([True, 1], pa.string(), ["true", "1"]),
    "fractions and true": ([0.5, True], pa.string(), ["0.5", "true"]),
    "fractions and true in lists": ([[0.5], [True]], pa.string(), ["[0.5]", "[true]"]),
    "fractions and true in objects": ([{"a": 0.5}, {"a": True}], pa.string(), ['{"a": 0.5}', '{"a": true}']),
    "lists and text": ([["a"], "a"], pa.string(), ['["a"]', "a"]),
    "objects whose values are of different kinds": (
        [[{"role": "user"}], [{"role": 1}]], pa.string(), ['[{"role": "user"}]', '[{"role": 1}]']),
    "more than 64 bits": ([2**64, 1], pa.string(), [str(2**64), "1"]),
    "large whole numbers and fractions": ([2**53 + 1, 0.5], pa.string(), [str(2**53 + 1), "0.5"]),
    "large whole numbers and fractions in lists": ([[2**53 + 1], [0.5]], pa.string(), [f"[{2**53 + 1}]", "[0.5]"]),
    "large whole numbers beside fractions": (
        [{"a": 2**60, "b": 0.5}, {"a": 1, "b": 1}],
        pa.struct([("a", pa.int64()), ("b", pa.float64())]),
        [{"a": 2**60, "b": 0.5}, {"a": 1, "b": 1.0}]),
    "dates are text": (["2024-01-01", "12:30"], pa.string(), ["2024-01-01", "12:30"]),
    "escapes": (["\u0000\n\"\\/é字😀"], pa.string(), ["\u0000\n\"\\/é字😀"]),
}  # fmt: skip


@pytest.mark.parametrize("gap", [0, 30_000], ids=["one block", "several blocks"])
@pytest.mark.parametrize(("values", "type_", "expected"), TYPES.values(), ids=TYPES.keys())
def test_types(
    values: list[object], type_: pa.DataType, expected: list[object], gap: int, tmp_path: Path
) -> None:
    """The types are the same whether the values are close together or megabytes apart."""
    between = "".join(f'{{"filler": "{"x" * 1000}"}}\n' for _ in range(gap // 100))
    text = between.join(json.dumps({"v": value}) + "\n" for value in values)
    schema, chunks = read(text, tmp_path)
    assert schema.field("v").type == type_
    found = [row["v"] for row in rows_of(chunks) if row.get("filler") is None]
    assert found == expected
    for chunk in chunks:
        assert chunk.table.schema == schema
        pq.write_table(chunk.table, tmp_path / "again.parquet")


LAYOUTS = {
    "CRLF": '{"a": 1}\r\n{"a": 2}\r\n',
    "empty lines": '\n{"a": 1}\n\n  \n{"a": 2}\n\n',
    "no line break at the end": '{"a": 1}\n{"a": 2}',
    "white space": '  {"a": 1} \n\t{ "a" : 2 }\t\n',
    "CR alone": '{"a": 1}\r{"a": 2}\r',
    "mixed line ends": '{"a": 1}\r\n\r{"a": 2}\n',
    "form feed": '{"a": 1}\n\x0c\n{"a": 2}\n',
    "a byte order mark in each joined file": '\ufeff{"a": 1}\n\ufeff{"a": 2}\n',
    "byte order mark": '\ufeff{"a": 1}\n{"a": 2}\n',
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(text: str, tmp_path: Path) -> None:
    assert rows_of(read(text, tmp_path)[1]) == [{"a": 1}, {"a": 2}]


def test_a_missing_key_is_null_and_a_late_key_is_a_column(tmp_path: Path) -> None:
    filler = '{"a": 1}\n' * 60_000
    schema, chunks = read('{"a": 1}\n{"b": "x"}\n' + filler + '{"late": true}\n', tmp_path)
    assert schema.names == ["a", "b", "late"]
    rows = rows_of(chunks)
    assert rows[1] == {"a": None, "b": "x", "late": None}
    assert rows[-1] == {"a": None, "b": None, "late": True}


SURROGATES = {
    "high": (r"\ud800", "\ufffd"),
    "low": (r"a\udfffb", "a\ufffdb"),
    "wrong order": (r"\udc00\ud83d", "\ufffd\ufffd"),
}


@pytest.mark.parametrize(("escape", "expected"), SURROGATES.values(), ids=SURROGATES.keys())
def test_half_a_character_fails_its_row(escape: str, expected: str, tmp_path: Path) -> None:
    text = (
        '{"id": "a", "t": "\\ud83d\\ude00"}\n'
        f'{{"id": "b", "t": "{escape}"}}\n'
        f'{{"id": "c", "m": [{{"role": "user", "content": "{escape}"}}]}}\n'
    )
    _, (chunk,) = read(text, tmp_path)
    assert {index: failure.code for index, failure in chunk.failures.items()} == {
        1: "invalid_unicode",
        2: "invalid_unicode",
    }
    assert "'t'" in chunk.failures[1].message
    assert chunk.table.column("t").to_pylist() == ["😀", expected, None]
    assert chunk.table.column("m").to_pylist()[2] == [{"role": "user", "content": expected}]
    pq.write_table(chunk.table, tmp_path / "again.parquet")


def test_unterminated_text_fails_its_row(tmp_path: Path) -> None:
    rows = [{"t": "字" * 1_000_000}, {"t": "字" * 1_000_001}, {"m": [{"content": "x" * 1_000_001}]}]
    _, (chunk,) = read("".join(json.dumps(row) + "\n" for row in rows), tmp_path)
    assert {index: failure.code for index, failure in chunk.failures.items()} == {
        1: "prompt_too_long",
        2: "prompt_too_long",
    }
    assert [len(text or "") for text in chunk.table.column("t").to_pylist()] == [
        1_000_000,
        1_000_000,
        0,
    ]
    assert chunk.table.column("m").to_pylist() == [None, None, None]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), min_size=1, max_size=5)
)
def test_any_objects_are_read_or_rejected(
    rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("jsonl")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    chunks = read_or_refused(text.encode(), folder)
    assert chunks is None or sum(len(chunk.ids) for chunk in chunks) == len(rows)


@settings(max_examples=150, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.lists(st.sampled_from(["{", "}", "[", "]", '"', ":", ",", "1", "\\ud800", "\n", "null", '"a"']), max_size=30)
        .map("".join).map(str.encode),
    )
)  # fmt: skip
def test_any_bytes_are_read_or_rejected(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    read_or_refused(content, tmp_path_factory.mktemp("jsonl"))


def read_or_refused(content: bytes, folder: Path) -> list[Chunk] | None:
    try:
        _, chunks = read(content, folder)
    except DataError as error:
        assert error.hint, "a way out"  # noqa: PT017 - any other error has to fail the test
        return None
    for chunk in chunks:
        pq.write_table(chunk.table, folder / "again.parquet")
    return chunks
