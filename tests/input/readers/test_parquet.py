"""Parquet: conversion to plain types, text validation, memory that does not depend on the footer."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.parquet import encryption

from batchgen.errors import DataError
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


class _Kms(encryption.KmsClient):  # type: ignore[misc]  # pyarrow has no types for it
    """A key service without secrets."""

    def __init__(self, _config: object) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, _name: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, _name: str) -> bytes:
        return base64.b64decode(wrapped_key)


def encrypted(**settings: Any) -> bytes:
    table = pa.table({"id": [1, 2], "q": ["a", "b"], "s": ["c", "d"]})
    factory = encryption.CryptoFactory(_Kms)
    keys = factory.file_encryption_properties(
        encryption.KmsConnectionConfig(),
        encryption.EncryptionConfiguration(footer_key="f", **settings),
    )
    out = pa.BufferOutputStream()
    with pq.ParquetWriter(out, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    return bytes(out.getvalue())


def written(table: pa.Table, **settings: Any) -> bytes:
    out = pa.BufferOutputStream()
    pq.write_table(table, out, **settings)
    return bytes(out.getvalue())


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """The file with bytes of its footer replaced, as many times as they occur."""
    at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert old in data[at:-8]
    footer = data[at:-8].replace(old, new)
    return data[:at] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def varint(value: int) -> bytes:
    """A number in Thrift's compact protocol."""
    value *= 2
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


NUMBERS = pa.table({"n": list(range(700))})
TEXTS = pa.table({"t": [f"text {n}" for n in range(700)]})
PLAIN_NUMBERS = written(NUMBERS, compression="none", use_dictionary=False)


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])


def in_lists(column: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(range(len(column) + 1), pa.int32()), column)


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "encrypted columns": (encrypted(column_keys={"k": ["q"]}, plaintext_footer=True), "has encrypted columns"),
    "an encrypted footer": (encrypted(column_keys={"k": ["q"]}), "is encrypted Parquet"),
    "encrypted as a whole": (encrypted(uniform_encryption=True), "is encrypted Parquet"),
    "more rows in the footer than in its row groups": (
        replaced(PLAIN_NUMBERS, b"\x16" + varint(700) + b"\x19\x1c", b"\x16" + varint(900) + b"\x19\x1c"),
        "footer cannot be read: 900 rows, but 700 in its row groups"),
    "more rows in the footer than in the pages": (
        replaced(PLAIN_NUMBERS, varint(700), varint(900)), "contains 700 rows, but 900 by its footer"),
    "an unknown codec": (
        replaced(written(NUMBERS, compression="snappy", use_dictionary=False), b"n\x15\x02\x16", b"n\x15\x2e\x16"),
        "codec number 23, which cannot be read"),
    "LZO": (
        replaced(written(NUMBERS, compression="snappy", use_dictionary=False), b"n\x15\x02\x16", b"n\x15\x06\x16"),
        "codec lzo, which cannot be read"),
    "a name that is not UTF-8": (replaced(written(TEXTS, store_schema=False), b"\x01t", b"\x01\xff"), "its schema is damaged"),
    "a footer without end": (PLAIN_NUMBERS[:-8] + b"\xff\xff\xff\x7fPAR1", "its length is 2,147,483,647 bytes"),
    "a footer of nothing": (b"PAR1" + b"\0\0\0\0PAR1", "footer cannot be read"),
    "a list without end": (b"PAR1" + b"\x49\xfc\xff\xff\xff\xff\x07\0" + b"\x08\0\0\0PAR1", "a list is longer than the footer"),
    "structs without end": (b"PAR1" + b"\x1c" * 5000 + b"\x88\x13\0\0PAR1", "nested too deep"),
    "a damaged page header": (PLAIN_NUMBERS[:4] + b"\xff" * 9 + PLAIN_NUMBERS[13:], "page is damaged"),
    "a text of 900 kB, 7,000 times": (
        written(pa.table({"p": repeated("z" * 900_000, 7000)}), compression="zstd"), "bytes that unpack to more than 1,024 MiB"),
    "a text of 900 kB, 7,000 times in lists": (
        written(pa.table({"p": in_lists(repeated("z" * 900_000, 7000))}), compression="zstd"), "bytes that unpack to more than 1,024 MiB"),
    "two columns of 90 kB, 7,000 times": (
        written(pa.table({name: repeated("z" * 90_000, 7000) for name in "pq"}), compression="zstd"), "bytes that unpack to more than 1,024 MiB"),
    "a footer that declares a page of 2 TiB": (
        replaced(PLAIN_NUMBERS, b"\x16" + varint(700) + b"\x16", b"\x16" + varint(1 << 41) + b"\x16"), "unpack to more than"),
}  # fmt: skip


@pytest.mark.timing
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    """The process is neither ended by pyarrow, nor slowed by a bomb."""
    content, message = BAD_FILES[name]
    before = pa.default_memory_pool().max_memory()
    start = time.process_time()
    with pytest.raises(DataError) as caught:
        rows_of(source_of(tmp_path, lambda path: path.write_bytes(content)))
    assert time.process_time() - start < 10
    assert message in str(caught.value)
    assert caught.value.hint
    assert pa.default_memory_pool().max_memory() - before < 1 << 30


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_repeated_texts_of_an_ordinary_size_are_read(rows: int, tmp_path: Path) -> None:
    """A long instruction that is equal in all rows takes few bytes in a file."""
    table = pa.table({"id": range(rows), "p": repeated("instruction " * 400, rows)})
    assert source_of(tmp_path, table).survey().rows == rows


@pytest.mark.timing
def test_columns_cost_the_same_however_many_there_are(tmp_path: Path) -> None:
    """Opening a file with eight times as many columns takes about eight times as long, not 64 times."""
    seconds = []
    for columns in (500, 4000):
        folder = tmp_path / str(columns)
        folder.mkdir()
        table = pa.table({f"c{n}": ["x"] for n in range(columns)})
        start = time.process_time()
        rows_of(source_of(folder, table))
        seconds.append(time.process_time() - start)
    assert seconds[1] < 24 * seconds[0]
