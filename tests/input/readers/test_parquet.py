"""Parquet: conversion to plain types, text validation, memory that does not depend on the footer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.input.sources import Chunk, InputSource, open_source
from batchgen.job.spec import Input

TEXT = pa.string()


def source_of(
    folder: Path, *tables: pa.Table | Callable[[Path], object], **settings: object
) -> InputSource:
    for number, table in enumerate(tables):
        path = folder / f"{number}.parquet"
        if callable(table):
            table(path)
        else:
            pq.write_table(table, path)
    return open_source(Input.model_validate({"path": str(folder), **settings}), seed=0)


def chunks_of(source: InputSource, rows: int = 1000) -> list[Chunk]:
    return list(source.chunks(source.survey(), rows=rows))


def rows_of(source: InputSource) -> list[dict[str, Any]]:
    return [row for chunk in chunks_of(source) for row in chunk.table.to_pylist()]


LIKE_TEXT = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()), pa.json_(),
]  # fmt: skip


@pytest.mark.parametrize("type_", LIKE_TEXT, ids=str)
def test_every_text_type_is_read_as_string(type_: pa.DataType, tmp_path: Path) -> None:
    values = ["字", None, "", "字"]
    column = (
        pa.array(values).dictionary_encode().cast(type_)
        if pa.types.is_dictionary(type_)
        else pa.array(values, type_)
    )
    source = source_of(tmp_path, pa.table({"t": column}))
    assert source.survey().schema == pa.schema([("t", TEXT)])
    assert rows_of(source) == [{"t": value} for value in values]


ROLES = pa.struct([("role", TEXT), ("content", TEXT)])
PLAIN: dict[str, tuple[pa.Array, pa.DataType]] = {
    "large lists of large text": (pa.array([["a"], None], pa.large_list(pa.large_string())), pa.list_(TEXT)),
    "lists of one size": (pa.array([["a"], ["b"]], pa.list_(TEXT, 1)), pa.list_(TEXT)),
    "messages": (
        pa.array([[{"role": "user", "content": "hi"}]], pa.large_list(pa.struct([("role", pa.large_string()), ("content", pa.string_view())]))),
        pa.list_(ROLES)),
    "maps": (pa.array([[("k", 1)]], pa.map_(TEXT, pa.int64())), pa.list_(pa.struct([("key", TEXT), ("value", pa.int64())]))),
    "nothing": (pa.nulls(2), TEXT),
    "bytes": (pa.array([b"\xff"], pa.large_binary()), pa.binary()),
    "bytes of one size": (pa.array([b"1234"], pa.binary(4)), pa.binary()),
    "uuids": (pa.array([b"0123456789abcdef"], pa.binary(16)).cast(pa.uuid()), pa.binary()),
    "half floats": (pa.array([0.5], pa.float16()), pa.float32()),
    "wide decimals": (pa.array([1], pa.decimal256(50, 2)), TEXT),
    "decimals": (pa.array([1], pa.decimal128(5, 2)), pa.decimal128(5, 2)),
    "dates": (pa.array([1], pa.date32()), pa.date32()),
    "times": (pa.array([1], pa.timestamp("us", "Asia/Shanghai")), pa.timestamp("us", "Asia/Shanghai")),
    "small numbers": (pa.array([1], pa.uint8()), pa.uint8()),
}  # fmt: skip


@pytest.mark.parametrize(("column", "type_"), PLAIN.values(), ids=PLAIN.keys())
def test_plain_types_can_be_written_and_read_back(
    column: pa.Array, type_: pa.DataType, tmp_path: Path
) -> None:
    source = source_of(tmp_path, pa.table({"c": column}))
    survey = source.survey()
    assert survey.schema.field("c").type == type_
    (chunk,) = source.chunks(survey, rows=10)
    again = tmp_path / "again.pq"
    pq.write_table(chunk.table, again)
    assert pq.read_table(again).schema.field("c").type == type_
    assert pl.read_parquet(again).height == len(column)


def test_polars_files(tmp_path: Path) -> None:
    frame = pl.DataFrame({
        "m": [[{"role": "user", "content": "你好"}], None],
        "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
        "level": pl.Series(["x", None], dtype=pl.Enum(["x", "y"])),
    })  # fmt: skip
    source = source_of(tmp_path, lambda path: frame.write_parquet(path))
    assert source.survey().schema.types == [pa.list_(ROLES), TEXT, TEXT]
    assert rows_of(source)[0] == {
        "m": [{"role": "user", "content": "你好"}],
        "kind": "a",
        "level": "x",
    }


JOINS: dict[str, tuple[pa.DataType, pa.DataType, pa.DataType]] = {
    "whole numbers": (pa.int32(), pa.int64(), pa.int64()),
    "whole numbers and fractions": (pa.int32(), pa.float64(), pa.float64()),
    "nothing and numbers": (pa.null(), pa.int64(), pa.int64()),
    "nothing and text": (pa.null(), TEXT, TEXT),
    "text and large text": (TEXT, pa.large_string(), TEXT),
    "text and codes": (pa.dictionary(pa.int32(), TEXT), TEXT, TEXT),
    "structs": (pa.struct([("a", TEXT)]), pa.struct([("a", TEXT), ("b", TEXT)]), pa.struct([("a", TEXT), ("b", TEXT)])),
}  # fmt: skip


@pytest.mark.parametrize(("one", "other", "both"), JOINS.values(), ids=JOINS.keys())
def test_types_of_several_files(
    one: pa.DataType, other: pa.DataType, both: pa.DataType, tmp_path: Path
) -> None:
    source = source_of(
        tmp_path, pa.table({"c": pa.nulls(2, one)}), pa.table({"c": pa.nulls(1, other)})
    )
    survey = source.survey()
    assert (survey.rows, survey.schema.field("c").type) == (3, both)
    assert source.describe() == "parquet, 2 files"
    for chunk in source.chunks(survey, rows=2):
        assert chunk.table.schema == survey.schema


def test_columns_in_another_order(tmp_path: Path) -> None:
    tables = pa.table({"a": ["1"], "b": ["2"]}), pa.table({"b": ["4"], "a": ["3"]})
    assert rows_of(source_of(tmp_path, *tables)) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]


def text_of(*values: bytes) -> pa.StringArray:
    """A string array whose bytes are not validated."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(TEXT, len(raw), raw.buffers())


@pytest.mark.parametrize("dictionary", [True, False], ids=["dictionary", "plain"])
def test_invalid_text_fails_its_row(dictionary: bool, tmp_path: Path) -> None:
    values = [b"fine"] * 3000
    values[7], values[2500] = b"a\xffb", "半".encode()[:2]
    table = pa.table({"id": [f"r{n}" for n in range(3000)], "t": text_of(*values)})
    source = source_of(
        tmp_path, lambda path: pq.write_table(table, path, use_dictionary=dictionary)
    )
    survey = source.survey()
    failures = {
        index: f
        for chunk in source.chunks(survey, rows=1000)
        for index, f in chunk.failures.items()
    }
    assert {index: failure.code for index, failure in failures.items()} == {
        7: "invalid_unicode",
        2500: "invalid_unicode",
    }
    assert "'t'" in failures[7].message
    texts = [row["t"] for row in rows_of(source)]
    assert (texts[7], texts[2500], texts[8]) == ("a\ufffdb", "\ufffd", "fine")


def test_invalid_text_within_messages_fails_its_row(tmp_path: Path) -> None:
    content = text_of(b"ok", b"\xff", b"ok")
    role = pa.array(["user"] * 3)
    turns = pa.StructArray.from_arrays([role, content], fields=list(ROLES))
    messages = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), turns)
    (chunk,) = chunks_of(source_of(tmp_path, pa.table({"m": messages})))
    assert {index: failure.code for index, failure in chunk.failures.items()} == {
        1: "invalid_unicode"
    }
    assert [value is None for value in chunk.table.column("m").to_pylist()] == [False, True, False]


def test_failures_keep_their_rows_through_filter_and_chunks(tmp_path: Path) -> None:
    texts = [b"\xff" if n % 100 == 50 else b"x" for n in range(5000)]
    table = pa.table(
        {"id": [str(n) for n in range(5000)], "n": list(range(5000)), "t": text_of(*texts)}
    )
    source = source_of(tmp_path, table, filter="n % 2 = 0 AND n > 1000", sample=1500, limit=1400)
    chunks = chunks_of(source, rows=37)
    assert sum(len(chunk.ids) for chunk in chunks) == 1400
    for chunk in chunks:
        bad = [
            id_
            for id_, text in zip(chunk.ids, chunk.table.column("t").to_pylist(), strict=True)
            if text != "x"
        ]
        assert [chunk.ids[index - chunk.first] for index in sorted(chunk.failures)] == bad


@pytest.mark.slow
def test_a_decompression_bomb_uses_little_memory(tmp_path: Path) -> None:
    """A small file that decodes to 3 GB: one text of 50 MB in a dictionary, repeated for 60 rows."""

    def write(path: Path) -> None:
        text = pa.DictionaryArray.from_arrays(pa.array([0] * 60, pa.int32()), ["z" * 50_000_000])
        pq.write_table(pa.table({"p": text}), path, compression="zstd")

    source = source_of(tmp_path, write)
    assert (tmp_path / "0.parquet").stat().st_size < 10_000
    before = pa.default_memory_pool().max_memory()
    survey = source.survey()
    assert survey.rows == 60
    for chunk in source.chunks(survey, rows=20):
        assert len(chunk.failures) == 20
        assert all(failure.code == "prompt_too_long" for failure in chunk.failures.values())
        assert chunk.table.nbytes < 30_000_000
    assert pa.default_memory_pool().max_memory() - before < 1_000_000_000
