"""Small files with random damage, in a process of their own: each is read or rejected, and the process does not end."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from batchgen.errors import DataError
from batchgen.input.sources import open_source
from batchgen.job.spec import Input

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TABLE = pa.table({
    "id": list(range(40)),
    "q": [f"question {n} 字" for n in range(40)],
    "messages": [[{"role": "user", "content": "x"}]] * 40,
    "kind": ["a", None] * 20,
})  # fmt: skip
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TABLE.to_pylist()[:9])
FORMATS = ["parquet", "pq", "csv", "jsonl", "json", "jsonl.gz", "jsonl.zst", "xlsx"]
HARMS = 40
"""Damaged files of each format."""


def write(path: Path) -> None:
    kind = path.name.partition(".")[2]
    if kind == "parquet":
        pq.write_table(TABLE, path, compression="zstd", row_group_size=20)
    elif kind == "pq":
        pq.write_table(TABLE.select(["q", "messages"]), path, compression="snappy", data_page_version="2.0", write_page_index=True)  # fmt: skip
    elif kind == "csv":
        path.write_text("id,q\n" + "".join(f'{n},"a ""b"" {n} 字"\n' for n in range(20)))
    elif kind == "json":
        path.write_text(json.dumps(TABLE.to_pylist()[:9], indent=1))
    elif kind == "xlsx":
        workbook = Workbook()
        for row in [["id", "q"], *([n, f"question {n}"] for n in range(9))]:
            workbook.active.append(row)
        workbook.save(path)
    else:
        text = LINES.encode()
        contents = {
            "jsonl": text,
            "jsonl.gz": gzip.compress(text),
            "jsonl.zst": zstd.compress(text),
        }
        path.write_bytes(contents[kind])


def harmed(data: bytes, choice: random.Random, *, at_end: bool) -> bytes:
    content = bytearray(data)
    for _ in range(choice.choice([1, 1, 1, 3])):
        first = max(0, len(content) - 1500) if at_end and choice.random() < 0.6 else 0
        at = choice.randrange(first, len(content))
        noise = choice.choice([bytes([choice.randrange(256)]), b"\xff" * 4, b"\0" * 4, b""])
        content[at : at + choice.choice([0, len(noise), len(noise), 8])] = noise
    return bytes(content)


def read_harmed(folder: Path) -> None:
    """Read a file of each format with HARMS different harms; any error but DataError is raised."""
    for path in [folder / f"x.{kind}" for kind in FORMATS]:
        write(path)
        data = path.read_bytes()
        choice = random.Random(path.name)
        for number in range(HARMS):
            sys.stdout.write(f"{path.name} {number}\n")
            sys.stdout.flush()
            path.write_bytes(harmed(data, choice, at_end=path.suffix in {".parquet", ".pq"}))
            read_or_reject(path)


def read_or_reject(path: Path) -> None:
    try:
        source = open_source(Input(path=str(path)), seed=0)
        for chunk in source.chunks(source.survey(), rows=100):
            chunk.table.to_pylist()
    except DataError as error:
        assert error.hint, error  # noqa: PT017  # any other error has to fail the test


@pytest.mark.slow
def test_damaged_files_are_read_or_rejected(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from test_damaged_files import read_harmed; read_harmed(Path({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parent, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1]}: {done.stderr[-2000:]}"
    assert len(done.stdout.splitlines()) == len(FORMATS) * HARMS
