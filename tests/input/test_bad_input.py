"""Unreadable input: each message has the place, what was found, what was expected, and a hint.

Messages never repeat a cell: cells contain SECRET here.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.errors import DataError, ExitCode
from batchgen.input.sources import open_source
from batchgen.job.spec import Input

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Content = bytes | str | Callable[[Path], None]


def parquet(**columns: Any) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


def double_column(path: Path) -> None:
    pq.write_table(pa.table([["SECRET"], ["SECRET"]], names=["prompt", "prompt"]), path)


def interval(path: Path) -> None:
    span = pa.array([(1, 2, 3)], pa.list_view(pa.int64()))
    pq.write_table(pa.table({"a": span}), path)


def cut(build: Callable[[Path], None], size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        build(path)
        path.write_bytes(path.read_bytes()[:size])

    return write


def damaged(path: Path) -> None:
    texts = [f"SECRET{number:06}" for number in range(5000)]
    pq.write_table(
        pa.table({"a": texts}),
        path,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_file(path: Path) -> None:
    """A socket file, bound by its relative name: the absolute path may exceed the limit for sockets."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def field_twice(path: Path) -> None:
    fields = [pa.field("f", pa.string()), pa.field("f", pa.string())]
    column = pa.StructArray.from_arrays([pa.array(["SECRET"]), pa.array(["x"])], fields=fields)
    pq.write_table(pa.table({"a": column}), path)


def loop_of_links(path: Path) -> None:
    path.symlink_to(path.name)


def zstd_file(path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as out:
        out.write(b"a,b\n" + os.urandom(3000).hex().encode() + b",1\n")


def tar_gzip(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"), io.BytesIO())


SECRET_CSV = "id,text\n1,SECRET\n"
SECRET_LINE = '{"id": 1, "text": "SECRET"}\n'

CSV: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], list[str]]] = {
    "short row": ({"x.csv": "id,text\n1,SECRET\n2\n"}, {}, ["x.csv:3", "found 1 field,", "expected 2 (id, text)"]),
    "long row": ({"x.csv": "id,text\n1,SECRET,SECRET\n"}, {}, ["x.csv:2", "found 3 fields", "expected 2"]),
    "long row of empty fields": ({"x.csv": "id,text\n1,SECRET,,\n"}, {}, ["x.csv:2", "found 4 fields", "End the header with 2 more"]),
    "short row after line breaks in quotes": ({"x.csv": 'id,text\n1,"SE\nCR\r\nET"\n\n2\n'}, {}, ["x.csv:6", "found 1"]),
    "short row far down": ({"x.csv": "id,text\n" + "1,SECRET\n" * 99_999 + "2\n"}, {}, ["x.csv:100001", "found 1"]),
    "unclosed quote": ({"x.csv": 'id,text\n1,SECRET\n2,"SECRET\n3,SECRET\n'}, {}, ["x.csv:3", "field 2", "never closed"]),
    "unclosed quote in a large file": (
        {"x.csv": 'id,text\n1,"SECRET\n' + "2,SECRET\n" * 200_000}, {}, ["x.csv:2", "field 2", "never closed", "1,000,000"]),
    "unclosed quote in the header": ({"x.csv": 'id,"text\n1,SECRET\n'}, {}, ["x.csv:1", "field 2", "never closed"]),
    "quote closed by the next one": (
        {"x.csv": 'id,text\n1,"SECRET\n2,"SECRET"\n'}, {}, ["x.csv:3", "text follows the closing quote of field 2", "x.csv:2"]),
    "field without end": ({"x.csv": "id,text\n1," + "SECRET" * 200_000 + "\n"}, {}, ["x.csv:2", "longer than 1,000,000"]),
    "quoted field without end": ({"x.csv": 'id,text\n1,"' + "SECRET" * 200_000 + '"\n'}, {}, ["x.csv:2", "field 2", "1,000,000"]),
    "no line breaks": ({"x.csv": "x" * 17_000_000}, {}, ["x.csv:1", "longer than 1,000,000"]),
    "header twice": ({"x.csv": "id,prompt,prompt\n1,SECRET,b\n"}, {}, ["x.csv:1", "'prompt' twice", "fields 2 and 3"]),
    "header twice after a byte order mark": ({"x.csv": "\ufeffa,a\nSECRET,b\n"}, {}, ["x.csv:1", "'a' twice", "fields 1 and 2"]),
    "empty file": ({"x.csv": b""}, {}, ["x.csv", "is empty", "0 bytes"]),
    "empty file among others": ({"a.csv": SECRET_CSV, "b.csv": b""}, {"path": "."}, ["b.csv", "is empty", "0 bytes"]),
    "empty lines alone": ({"x.csv": "\n\r\n\n"}, {}, ["x.csv", "no header"]),
    "byte order mark alone": ({"x.csv": b"\xef\xbb\xbf"}, {}, ["x.csv", "no header"]),
    "header alone": ({"x.csv": "id,text\n"}, {}, ["x.csv", "no rows"]),
    "wrong delimiter": (
        {"x.csv": "id;prompt\n1;SECRET\n"}, {"csv": {"delimiter": ","}, "columns": {"id": "id"}},
        ["input.columns.id", "column 'id' is not in the input", "input.csv.delimiter", "id;prompt"]),
    "misspelt id column": ({"x.csv": "key,text\n1,SECRET\n"}, {"columns": {"id": "keys"}}, ["'keys'", "Did you mean 'key'"]),
    "not of the encoding named": (
        {"x.csv": "a\n天\n".encode("gb18030")}, {"csv": {"encoding": "utf-8"}}, ["x.csv:2", "not utf-8", "0xcc", "input.csv.encoding"]),
    "a byte of no encoding in Chinese text": (
        {"x.csv": "a\n天气\n你好SECRET".encode("gbk") + b"\xff\n"}, {}, ["not UTF-8 (byte 0xcc in line 2)", "not GB18030 (byte 0xff in line 3)"]),
    "a byte that GBK lacks": (
        {"x.csv": "a\n天\n好".encode("gbk") + b"\xff\n"}, {"csv": {"encoding": "gbk"}}, ["x.csv:3", "not gb18030 text (byte 0xff)"]),
    "a byte that Shift_JIS lacks, after CR line ends": (
        {"x.csv": "a\r天\r".encode("shift_jis") + b"\x81\x20\r"}, {"csv": {"encoding": "shift_jis"}}, ["x.csv:3", "not shift_jis text (byte 0x81)"]),
    "backslashes before quotes": (
        {"x.csv": 'id,text\n1,"<a href=\\"SECRET\\">"\n'}, {}, ["x.csv:2", "field 2", r'backslash before a quote (\")', "ESCAPED BY"]),
    "backslashes before quotes and a delimiter": (
        {"x.csv": 'id,text\n1,x\n2,"SECRET\\", she said"\n'}, {}, ["x.csv:3", "found 3 fields", r'backslash before a quote (\")', "ESCAPED BY"]),
    "backslashes before delimiters": (
        {"x.csv": "id,text\n1,SECRET\\, she said\n"}, {}, ["x.csv:2", "found 3 fields", r'backslash before the delimiter (\,)', "ENCLOSED BY"]),
    "text in a column without a name": (
        {"x.csv": "id,text,,\n1,x,,\n\n2,x,,SECRET\n"}, {}, ["x.csv:4", "field 4 contains text", "no name in the header"]),
    "a delimiter line alone": ({"x.csv": "sep=;\n"}, {}, ["x.csv", "no header"]),
    "files joined with their headers": (
        {"x.csv": "\ufeffid,text\n1,SECRET\n\ufeffid,text\n2,SECRET\n"}, {}, ["x.csv:3", "second byte order mark", "input.path"]),
    "another encoding far down": (
        {"x.csv": b"a\n" + b"SECRET\n" * 200_000 + b"\xcc\xec\n"}, {}, ["x.csv:200002", "not utf-8", "gb18030"]),
    "a byte too few in utf-16": (
        {"x.csv": ("a\n" + "上上\n" * 3).encode("utf-16") + b"x"}, {}, ["x.csv:5", "not utf-16"]),
    "no encoding that is known": ({"x.csv": b"a\nSECRET\xff\xff\n"}, {}, ["x.csv", "not UTF-8 (byte 0xff in line 2)", "not GB18030 (byte 0xff in line 2)"]),
    "utf-16 without mark": ({"x.csv": "a,b\nSECRET,天\n".encode("utf-16-le")}, {}, ["x.csv", "utf-16-le"]),
    "cut off within a character": ({"x.csv": "a\n天".encode()[:-1]}, {"csv": {"encoding": "utf-8"}}, ["x.csv:2", "not utf-8"]),
    "no such encoding": ({"x.csv": SECRET_CSV}, {"csv": {"encoding": "utf-9"}}, ["input.csv.encoding", "'utf-9'"]),
    "no text encoding": ({"x.csv": SECRET_CSV}, {"csv": {"encoding": "base64"}}, ["input.csv.encoding", "'base64'"]),
    "text that is not Unicode": ({"x.csv": "a\n\\ud800\n"}, {"csv": {"encoding": "unicode_escape"}}, ["x.csv", "not valid Unicode"]),
    "delimiter is the quote": ({"x.csv": SECRET_CSV}, {"csv": {"delimiter": '"'}}, ["input.csv", "both"]),
    "line break as delimiter": ({"x.csv": SECRET_CSV}, {"csv": {"delimiter": "\n"}}, ["input.csv.delimiter"]),
    "wide delimiter": ({"x.csv": SECRET_CSV}, {"csv": {"delimiter": "，"}}, ["input.csv.delimiter", "ASCII"]),
    "different headers": (
        {"a.csv": SECRET_CSV, "b.csv": "id,txt\n2,SECRET\n"}, {}, ["b.csv", "no column 'text'", "a.csv"]),
}  # fmt: skip

JSONL: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], list[str]]] = {
    "bad line": ({"x.jsonl": SECRET_LINE + '{"id": 2, "text": SECRET}\n'}, {}, ["x.jsonl:2", "not JSON", "character 19"]),
    "torn last line": ({"x.jsonl": SECRET_LINE * 2 + SECRET_LINE[:20]}, {}, ["x.jsonl:3", "not JSON", "still being written"]),
    "a list": ({"x.jsonl": SECRET_LINE + '["SECRET"]\n'}, {}, ["x.jsonl:2", "is a list", "expected an object"]),
    "a text": ({"x.jsonl": '"SECRET"\n'}, {}, ["x.jsonl:1", "is text", "expected an object"]),
    "null": ({"x.jsonl": "null\n"}, {}, ["x.jsonl:1", "is null", "expected an object"]),
    "two on a line": ({"x.jsonl": '{"a": "SECRET"} {"a": 2}\n'}, {}, ["x.jsonl:1", "a second object begins at character 17", "input.format: json"]),
    "a JSON document": ({"x.jsonl": '[\n{"a": "SECRET"}\n]\n'}, {}, ["x.jsonl:1", "is a JSON array", "input.format: json"]),
    "key twice": ({"x.jsonl": '{"a": "SECRET", "a": 1}\n'}, {}, ["x.jsonl:1", "key 'a' appears twice", "own name"]),
    "a tab in text": ({"x.jsonl": SECRET_LINE + '{"a": "SECRET\t"}\n'}, {}, ["x.jsonl:2", r"text contains a tab (write \t) at character 14"]),
    "NUL bytes at the end": ({"x.jsonl": SECRET_LINE + "\0" * 64}, {}, ["x.jsonl:2", "NUL byte", "full disk"]),
    "a trailing comma": ({"x.jsonl": '{"a": "SECRET",}\n'}, {}, ["x.jsonl:1", "a comma before } at character"]),
    "a comma in a list": ({"x.jsonl": '{"a": ["SECRET",]}\n'}, {}, ["x.jsonl:1", "a comma before ] at character"]),
    "a comma after the object": ({"x.jsonl": '{"a": "SECRET"},\n{"a": 1}\n'}, {}, ["x.jsonl:1", "a comma follows the object"]),
    "objects over several lines": (
        {"x.jsonl": '{\n "a": "SECRET"\n}\n'}, {}, ["x.jsonl:1", "does not end on this line", "input.format: json"]),
    "a text over two lines": ({"x.jsonl": '{"a": "SECRET\nx"}\n'}, {}, ["x.jsonl:1", "does not end on this line"]),
    "single quotes": ({"x.jsonl": "{'a': 'SECRET'}\n"}, {}, ["x.jsonl:1", "a single quote instead of a double quote at character 2"]),
    "GBK": ({"x.jsonl": '{"a": "你好世界，SECRET"}\n'.encode("gbk")}, {}, ["x.jsonl:1", "not utf-8", "iconv -f gb18030"]),
    "NaN": ({"x.jsonl": '{"a": NaN, "b": "SECRET"}\n'}, {}, ["x.jsonl:1", "NaN is not JSON", "null"]),
    "thousands of digits": ({"x.jsonl": '{"a": ' + "9" * 5000 + "}\n"}, {}, ["x.jsonl:1", "too many digits"]),
    "deep": ({"x.jsonl": '{"a": ' + "[" * 50 + "]" * 50 + "}\n"}, {}, ["x.jsonl:1", "32 deep"]),
    "very deep": ({"x.jsonl": '{"a": ' + "[" * 500_000 + "]" * 500_000 + "}\n"}, {}, ["x.jsonl:1", "32 deep"]),
    "line without end": ({"x.jsonl": '{"a": "' + "x" * 17_000_000}, {}, ["x.jsonl:1", "longer than 16,000,000"]),
    "keys without end": (
        {"x.jsonl": "".join(f'{{"k{n}": 1}}\n' for n in range(3000))}, {}, ["x.jsonl", "2,000 different keys"]),
    "inner keys without end": (
        {"x.jsonl": "".join(f'{{"a": {{"k{n}": 1}}}}\n' for n in range(3000))}, {}, ["x.jsonl", "2,000 different keys"]),
    "not UTF-8": ({"x.jsonl": b'{"a": 1}\n{"a": "SECRET\xff"}\n'}, {}, ["x.jsonl:2", "not utf-8", "0xff", "Convert"]),
    "utf-16": ({"x.jsonl": SECRET_LINE.encode("utf-16")}, {}, ["x.jsonl:1", "not utf-8"]),
    "prompt column of numbers": (
        {"x.jsonl": '{"p": 1}\n'}, {"columns": {"prompt": "p"}}, ["input.columns.prompt", "'p' is int64", "expected text"]),
    "empty lines alone": ({"x.jsonl": "\n \n"}, {}, ["x.jsonl", "no rows"]),
    "empty file": ({"x.jsonl": b""}, {}, ["x.jsonl", "is empty"]),
}  # fmt: skip

DOCUMENT: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], list[str]]] = {
    "cut off in an object": ({"x.json": '[{"a": 1},\n{"a": "SECRET'}, {}, ["x.json:2", "file ends before", "still being written"]),
    "cut off in a number": ({"x.json": '[{"a": 12'}, {}, ["x.json:1", "file ends before"]),
    "cut off after an object": ({"x.json": '[{"a": "SECRET"}\n'}, {}, ["x.json:2", "file ends before"]),
    "cut off after a comma": ({"x.json": '[{"a": "SECRET"},'}, {}, ["x.json:1", "file ends before"]),
    "a trailing comma in an object": ({"x.json": '[\n{"a": "SECRET",\n}\n]'}, {}, ["x.json:", "a comma before }"]),
    "a trailing comma in the array": ({"x.json": '[{"a": "SECRET"},\n]'}, {}, ["x.json:2", "a comma before ]"]),
    "no comma in the array": ({"x.json": '[{"a": "SECRET"}\n{"a": 1}]'}, {}, ["x.json:2", "expected a comma or ]"]),
    "an array of lists": ({"x.json": '[["SECRET"]]'}, {}, ["x.json:1", "is a list", "expected an object"]),
    "an array of texts": ({"x.json": '["SECRET"]'}, {}, ["x.json:1", "is text", "expected an object"]),
    "text after the array": ({"x.json": '[{"a": 1}]\nSECRET'}, {}, ["x.json:2", "expecting value at character 1"]),
    "an empty array": ({"x.json": "[]"}, {}, ["x.json", "no rows"]),
    "NaN": ({"x.json": '[{"a": 1},\n{"a": NaN, "b": "SECRET"}]'}, {}, ["x.json:2", "NaN is not JSON"]),
    "key twice": ({"x.json": '[{"a": 1, "a": "SECRET"}]'}, {}, ["x.json:1", "key 'a' appears twice"]),
    "deep": ({"x.json": '[{"a": ' + "[" * 50 + "]" * 50 + "}]"}, {}, ["x.json:1", "32 deep"]),
    "very deep": ({"x.json": '[{"a": ' + "[" * 500_000 + "]" * 500_000 + "}]"}, {}, ["x.json:1", "32 deep"]),
    "an object without end": ({"x.json": '[\n{"a": "' + "x" * 17_000_000}, {}, ["x.json:2", "longer than 16,000,000"]),
    "not UTF-8": ({"x.json": b'[{"a": 1},\n{"a": "SECRET\xff"}]'}, {}, ["x.json:2", "not utf-8", "0xff"]),
    "NUL": ({"x.json": b'[{"a": 1}]\n\0\0'}, {}, ["x.json:2", "NUL"]),
}  # fmt: skip

PARQUET: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], list[str]]] = {
    "0 bytes": ({"x.parquet": b""}, {}, ["x.parquet", "0 bytes", "still being written"]),
    "4 bytes": ({"x.parquet": b"PAR1"}, {}, ["x.parquet", "not a complete Parquet file", "footer", "still being written"]),
    "cut off": ({"x.parquet": cut(parquet(a=["SECRET"] * 9), 60)}, {}, ["x.parquet", "not a complete Parquet file", "60 bytes"]),
    "not Parquet": ({"x.parquet": SECRET_CSV}, {}, ["x.parquet", "not a Parquet file", "input.format"]),
    "a damaged footer": ({"x.parquet": b"PAR1" + b"x" * 40 + b"\x10\0\0\0PAR1"}, {}, ["x.parquet", "footer cannot be read"]),
    "encrypted": ({"x.parquet": b"PARE" + b"x" * 40 + b"\x10\0\0\0PARE"}, {}, ["x.parquet", "encrypted"]),
    "a damaged page": ({"x.parquet": damaged}, {}, ["x.parquet", "page is damaged"]),
    "temporary name": ({"x.parquet.tmp": parquet(a=["SECRET"])}, {}, ["x.parquet.tmp", "still being written"]),
    "column twice": ({"x.parquet": double_column}, {}, ["x.parquet", "two columns named 'prompt'"]),
    "field twice": ({"x.parquet": field_twice}, {}, ["x.parquet", "'a'", "different names"]),
    "a type that cannot be used": ({"x.parquet": interval}, {}, ["x.parquet", "'a'", "list_view"]),
    "no rows": ({"x.parquet": parquet(a=pa.array([], pa.string()))}, {}, ["x.parquet", "no rows"]),
    "types in two files": (
        {"a.parquet": parquet(n=[1]), "b.parquet": parquet(n=["SECRET"])}, {}, ["b.parquet", "'n' is string", "int64", "a.parquet"]),
    "text and bytes in two files": (
        {"a.parquet": parquet(n=["SECRET"]), "b.parquet": parquet(n=[b"SECRET"])}, {}, ["b.parquet", "'n' is binary", "a.parquet"]),
    "columns in two files": (
        {"a.parquet": parquet(id=[1]), "b.parquet": parquet(id=[2], x=["SECRET"])}, {}, ["a.parquet", "no column 'x'", "b.parquet"]),
    "a number that the common type cannot hold": (
        {"a.parquet": parquet(n=[0.5]), "b.parquet": parquet(n=[2**53 + 1])}, {}, ["b.parquet", "rows 0 to 0", "'n'", "double"]),
    "prompt column of numbers": (
        {"x.parquet": parquet(p=[1])}, {"columns": {"prompt": "p"}}, ["input.columns.prompt", "'p' is int64", "expected text"]),
    "prompt column of bytes": (
        {"x.parquet": parquet(p=[b"SECRET"])}, {"columns": {"prompt": "p"}}, ["input.columns.prompt", "'p' is binary"]),
    "prompt column of coded bytes": (
        {"x.parquet": parquet(p=pa.array([b"SECRET"]).dictionary_encode())}, {"columns": {"prompt": "p"}},
        ["input.columns.prompt", "'p' is binary"]),
    "prompt column of lists": (
        {"x.parquet": parquet(p=[["SECRET"]])}, {"columns": {"prompt": "p"}}, ["input.columns.prompt", "'p' is list", "expected text"]),
    "prompt column is not there": (
        {"x.parquet": parquet(text=["SECRET"])}, {"columns": {"prompt": "txt"}}, ["input.columns.prompt", "'txt'", "Did you mean 'text'"]),
    "messages column of numbers": (
        {"x.parquet": parquet(m=[[1]])}, {"columns": {"messages": "m"}}, ["input.columns.messages", "'m' is list", "role"]),
    "id column of bytes": ({"x.parquet": parquet(id=[b"SECRET"])}, {}, ["input.columns.id", "'id' is binary"]),
    "empty file among others": (
        {"a.parquet": parquet(a=["SECRET"]), "b.parquet": b""}, {"path": "."}, ["b.parquet", "0 bytes", "still being written"]),
    "NaN as an id": ({"x.parquet": parquet(id=[1.0, float("nan"), 3.0])}, {}, ["'id' has no id in", "x.parquet row 1"]),
    "NaN as an id, twice": (
        {"x.parquet": parquet(id=[1.0, float("nan"), float("nan")])}, {}, ["'id' has no id in", "row 1", "row 2"]),
    "a blank id": ({"x.parquet": parquet(id=["a", " \u3000"])}, {}, ["'id' has no id in", "x.parquet row 1"]),
    "ids that differ in spaces": (
        {"x.parquet": parquet(id=["a", " a", "a "])}, {}, ["'id' repeats ids", "' a' in", "row 1", "Spaces around"]),
    "ids that differ in the form of accents": (
        {"x.parquet": parquet(id=["e\u0301", "\u00e9"])}, {}, ["'id' repeats ids", r"'e\u0301' in", r"'\xe9' in", "accents"]),
    "ids that a spreadsheet shortened": (
        {"x.csv": "id,q\n1.23457E+12,a\n1.23457E+12,b\n"}, {}, ["repeats ids: '1.23457E+12' in", "spreadsheet"]),
    "id column of lists": ({"x.parquet": parquet(id=[[1]])}, {}, ["input.columns.id", "'id' is list", "text or numbers"]),
    "Parquet inside gzip": ({"x.parquet.gz": gzip.compress(b"PAR1")}, {}, ["x.parquet.gz", "Parquet inside gzip", "Unpack"]),
}  # fmt: skip

FILES: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], list[str]]] = {
    "gzip under another name": ({"x.csv": gzip.compress(SECRET_CSV.encode())}, {}, ["x.csv", "is gzip data"]),
    "gzip named JSONL": ({"x.jsonl": gzip.compress(SECRET_LINE.encode())}, {}, ["x.jsonl", "is gzip data", ".gz"]),
    "gzip named Parquet": ({"x.parquet": gzip.compress(SECRET_CSV.encode())}, {}, ["x.parquet", "not a Parquet file"]),
    "gzip within gzip": ({"x.csv.gz": gzip.compress(gzip.compress(SECRET_CSV.encode()))}, {}, ["x.csv.gz: is gzip data inside gzip", "unpack"]),
    "nothing within gzip": ({"x.csv.gz": gzip.compress(b"")}, {}, ["x.csv.gz", "is empty (0 bytes when decompressed)"]),
    "zstd under another name": ({"x.csv": zstd_file}, {}, ["x.csv", "is zstd data"]),
    "named zstd, but is not": ({"x.csv.zst": SECRET_CSV}, {}, ["x.csv.zst", "not zstd data"]),
    "named gzip, but is not": ({"x.csv.gz": SECRET_CSV}, {}, ["x.csv.gz", "not gzip data"]),
    "gzip cut off": ({"x.csv.gz": gzip.compress(os.urandom(9999).hex().encode())[:-20]}, {}, ["x.csv.gz", "damaged or incomplete"]),
    "zstd cut off": ({"x.csv.zst": cut(zstd_file, 1500)}, {}, ["x.csv.zst", "damaged or incomplete"]),
    "a workbook": ({"x.csv": b"PK\x03\x04SECRET"}, {}, ["x.csv", "zip data"]),
    "Parquet named CSV": ({"x.csv": b"PAR1SECRET"}, {}, ["x.csv", "Parquet data"]),
    "Parquet named JSONL": ({"x.jsonl": parquet(a=["SECRET"])}, {}, ["x.jsonl", "is Parquet data"]),
    "a socket": ({"x.csv": socket_file}, {}, ["x.csv", "a socket", "regular file"]),
    "a pipe": ({"x.csv": pipe}, {}, ["x.csv", "a pipe", "regular file"]),
    "a link to itself": ({"x.csv": loop_of_links}, {}, ["x.csv"]),
    "no format in the name": ({"x.txt": SECRET_CSV}, {}, ["x.txt", "unknown format", "input.format"]),
    "an archive": ({"x.tar.gz": gzip.compress(b"SECRET")}, {}, ["x.tar.gz", "unknown format", "Unpack it first"]),
    "an archive named CSV": ({"x.csv.gz": tar_gzip}, {}, ["x.csv.gz", "tar data inside gzip", "Unpack"]),
    "xz": ({"x.csv.xz": lzma.compress(b"SECRET")}, {}, ["x.csv.xz", "unknown format", "Unpack it first"]),
    "xz named CSV": ({"x.csv": lzma.compress(b"SECRET")}, {}, ["x.csv", "is xz data", "Unpack"]),
    "bzip2 named JSONL": ({"x.jsonl": bz2.compress(b"SECRET")}, {}, ["x.jsonl", "is bzip2 data", "Unpack"]),
    "zip": ({"x.csv.zip": b"PK\x03\x04"}, {}, ["x.csv.zip", "unknown format", "Unpack it first"]),
    "a folder of nothing": ({"readme.md": "SECRET"}, {"path": "."}, ["no input files", "readme.md", ".parquet"]),
    "a folder of several formats": ({"a.csv": SECRET_CSV, "b.jsonl": SECRET_LINE}, {"path": "."}, ["a.csv is csv", "b.jsonl is jsonl"]),
    "a folder of another format": ({"a.csv": SECRET_CSV}, {"path": ".", "format": "jsonl"}, ["no input files", "a.csv", ".jsonl"]),
    "hidden files alone": ({".a.csv": SECRET_CSV, "_b.csv": SECRET_CSV}, {"path": "."}, ["no input files"]),
    "a glob of nothing": ({"a.csv": SECRET_CSV}, {"path": "b*.csv"}, ["b*.csv", "no input files"]),
    "not a glob": ({"a.csv": SECRET_CSV}, {"path": "**a/*.csv"}, ["**a/*.csv", "not a valid glob"]),
    "a missing file": ({"rows.csv": SECRET_CSV}, {"path": "row.csv"}, ["row.csv", "no such file", "Did you mean rows.csv"]),
    "a name with NUL": ({"a.csv": SECRET_CSV}, {"path": "a\0.csv"}, ["null"]),
    "a file twice": ({"a.csv": SECRET_CSV}, {"path": ["a.csv", "a.csv"]}, ["a.csv", "given twice"]),
    "different hive folders": (
        {"lang=zh/a.csv": SECRET_CSV, "kind=x/b.csv": SECRET_CSV}, {"path": "."}, ["b.csv", "kind=", "lang=", "a.csv"]),
}  # fmt: skip

ROWS: dict[str, tuple[Mapping[str, Content], Mapping[str, Any], list[str]]] = {
    "an id twice": (
        {"x.csv": "id,t\na17,SECRET\nb,x\na17,x\na17,x\n"}, {}, ["'id' repeats", "'a17' in", "x.csv row 0", "x.csv row 2", "row 3"]),
    "an id in two files": (
        {"a.csv": "id,t\n1,x\n", "b.csv": "id,t\n2,x\n1,SECRET\n"}, {}, ["'1' in", "a.csv row 0", "b.csv row 1"]),
    "numbers as ids, twice": ({"x.jsonl": '{"id": 7}\n{"id": 7}\n'}, {}, ["'7' in", "row 0", "row 1"]),
    "no id": ({"x.csv": "id,t\n1,x\n,SECRET\n"}, {}, ["'id' has no id", "x.csv row 1"]),
    "null as an id": ({"x.jsonl": '{"id": "a"}\n{"id": null, "t": "SECRET"}\n'}, {}, ["'id' has no id", "x.jsonl row 1"]),
    "null as an id in Parquet": ({"x.parquet": parquet(id=["a", None], t=["SECRET"] * 2)}, {}, ["'id' has no id", "x.parquet row 1"]),
    "half a character in two ids": (
        {"x.jsonl": '{"id": "\\ud800"}\n{"id": "\\ud801"}\n'}, {}, ["'id' repeats ids", "x.jsonl row 0", "x.jsonl row 1"]),
    "an empty id": ({"x.csv": 'id,t\n1,x\n"",SECRET\n'}, {}, ["'id' has no id", "x.csv row 1"]),
    "filter leaves nothing": ({"x.csv": SECRET_CSV}, {"filter": "text = 'x'"}, ["input.filter", "none of the 1 rows"]),
    "filter: syntax": ({"x.csv": SECRET_CSV}, {"filter": "text ="}, ["input.filter", "text ="]),
    "filter: no such column": ({"x.csv": SECRET_CSV}, {"filter": "txt = 'x'"}, ["input.filter", "'txt'", "id, text"]),
    "filter: a number": ({"x.csv": SECRET_CSV}, {"filter": "length(text)"}, ["input.filter", "true or false"]),
    "filter: text against number": ({"x.csv": SECRET_CSV}, {"filter": "id > 0"}, ["input.filter", "TRY_CAST"]),
    "filter: a cell that is not a number": ({"x.csv": SECRET_CSV}, {"filter": "CAST(text AS INT) > 0"}, ["input.filter", "TRY_CAST"]),
    "filter: an aggregate": ({"x.csv": SECRET_CSV}, {"filter": "length(text) > AVG(length(text))"}, ["input.filter", "more than one row"]),
    "filter: a count": ({"x.csv": SECRET_CSV}, {"filter": "COUNT(id) > 1"}, ["input.filter", "more than one row"]),
    "filter: a window": (
        {"x.csv": SECRET_CSV}, {"filter": "ROW_NUMBER() OVER (ORDER BY id) < 9"}, ["input.filter", "more than one row"]),
    "filter: a statement": ({"x.csv": SECRET_CSV}, {"filter": "SELECT * FROM self"}, ["input.filter"]),
    "filter: two statements": ({"x.csv": SECRET_CSV}, {"filter": "id = '1'; DROP TABLE x"}, ["input.filter"]),
    "filter: a subquery": ({"x.csv": SECRET_CSV}, {"filter": "id IN (SELECT id FROM x)"}, ["input.filter"]),
    "filter: a subquery that is there": ({"x.csv": SECRET_CSV}, {"filter": "EXISTS (SELECT 1)"}, ["input.filter"]),
    "filter: all columns": ({"x.csv": SECRET_CSV}, {"filter": "COLUMNS('.*') = '1'"}, ["input.filter"]),
    "filter: a pattern of columns": ({"x.csv": SECRET_CSV}, {"filter": "\"^.*$\" = '1'"}, ["input.filter"]),
    "filter: a file": ({"x.csv": SECRET_CSV}, {"filter": "id IN read_csv('x.csv')"}, ["input.filter"]),
    "filter: a constant": ({"x.csv": SECRET_CSV}, {"filter": "1 = 1"}, ["input.filter", "contains no column"]),
    "filter: the clock": ({"x.csv": SECRET_CSV}, {"filter": "id < NOW()"}, ["input.filter", "${date}"]),
}  # fmt: skip

CASES = {
    f"{group}: {name}": case
    for group, cases in {"csv": CSV, "jsonl": JSONL, "json": DOCUMENT, "parquet": PARQUET, "files": FILES, "rows": ROWS}.items()
    for name, case in cases.items()
}  # fmt: skip


def write(folder: Path, name: str, content: Content) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize(("files", "settings", "expected"), CASES.values(), ids=CASES.keys())
def test_refused(
    files: Mapping[str, Content],
    settings: Mapping[str, Any],
    expected: list[str],
    tmp_path: Path,
) -> None:
    for name, content in files.items():
        write(tmp_path, name, content)
    path = settings.get("path", [*files])
    absolute = [str(tmp_path / p) for p in ([path] if isinstance(path, str) else path)]
    spec = Input.model_validate({**settings, "path": absolute})
    with pytest.raises(DataError) as caught:
        open_source(spec, seed=0).survey()
    error = caught.value
    assert error.exit_code is ExitCode.ENVIRONMENT
    assert int(error.exit_code) == 5
    for part in expected:
        assert part in str(error)
    assert error.hint
    assert "SECRET" not in str(error)
    assert len(str(error)) < 1000


HALF_A_GIGABYTE = gzip.compress(b"x" * 50_000_000) * 10


@pytest.mark.parametrize(
    ("name", "head", "message"),
    [
        ("x.csv.zst", b"", "x.csv.zst:1: a field is longer than 1,000,000"),
        ("x.json.zst", b'[{"q": "', "x.json.zst:1: an object is longer than 16,000,000"),
        ("x.csv.gz", b"", "x.csv.gz:1: a field is longer than 1,000,000"),
        ("x.csv.gz", b'q\n"', "x.csv.gz:2: the quote that opens field 1 is never closed"),
        ("x.jsonl.gz", b'{"q": "', "x.jsonl.gz:1: a line is longer than 16,000,000"),
    ],
)
def test_a_compression_bomb_is_rejected_early(
    name: str, head: bytes, message: str, tmp_path: Path
) -> None:
    if name.endswith(".zst"):
        half = zstd.compress(b"x" * 50_000_000) * 10
        (tmp_path / name).write_bytes(zstd.compress(head) + half)
    else:
        (tmp_path / name).write_bytes(gzip.compress(head) + HALF_A_GIGABYTE)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            open_source(Input(path=str(tmp_path / name)), seed=0).survey()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 200_000_000


def test_a_changed_file_stops_the_chunks(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(10)))
    source = open_source(Input(path=str(path)), seed=0)
    survey = source.survey()
    with path.open("a") as file:
        file.write('{"n": 10}\n')
    with pytest.raises(DataError, match=r"x\.jsonl: changed"):
        list(source.chunks(survey, rows=4))
    with pytest.raises(DataError, match="changed after it was surveyed"):
        list(open_source(Input(path=str(path)), seed=0).chunks(survey, rows=4))


def test_a_deleted_file_stops_the_chunks(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"n": 1}\n')
    source = open_source(Input(path=str(path)), seed=0)
    survey = source.survey()
    path.unlink()
    with pytest.raises(DataError, match="can no longer be read"):
        list(source.chunks(survey, rows=4))


def test_a_symlink_to_a_parent_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SECRET_CSV)
    (tmp_path / "down").symlink_to(tmp_path)
    with pytest.raises(DataError, match="symlink loop"):
        open_source(Input(path=str(tmp_path)), seed=0)
