"""Chunks are read in any order, each from the nearest place that the survey found."""

import gzip
import json
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.input.blocks import BlockStart
from batchgen.input.sources import InputSource, open_source
from batchgen.input.survey import MOST_STARTS, StartIndex
from batchgen.job.spec import Input

Rows = Sequence[dict[str, Any]]

TEXT = "Sätze mit Umlauten, 中文 und \u2028, damit ein Zeichen nicht ein Byte ist. "
ROWS: Rows = [
    {"key": f"k{n}", "q": f"{n} {TEXT * (n % 13)}", "kind": "ab"[n % 2]} for n in range(6000)
]
ENDED = {"q": f'"a\r\nb" {TEXT}', "kind": "a", "key": "last"}


def _jsonl(rows: Rows, end: str) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def _csv(rows: Rows, end: str, mark: str = "") -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = [",".join(rows[0]), *(",".join(map(cell, row.values())) for row in rows)]
    return (mark + "".join(line + end for line in lines)).encode()


def _parquet(rows: Rows, folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "rows.parquet", row_group_size=500)


def _two_folders(rows: Rows, folder: Path) -> None:
    for name, part in (("a", rows[:2500]), ("b", rows[2500:])):
        (folder / f"lang={name}").mkdir()
        (folder / f"lang={name}" / "rows.jsonl").write_bytes(_jsonl(part, "\n"))


INPUTS: dict[str, Callable[[Rows, Path], object]] = {
    "parquet": _parquet,
    "jsonl": lambda rows, folder: (folder / "rows.jsonl").write_bytes(_jsonl(rows, "\n")),
    "jsonl, CRLF": lambda rows, folder: (folder / "rows.jsonl").write_bytes(_jsonl(rows, "\r\n")),
    "jsonl, CR": lambda rows, folder: (folder / "rows.jsonl").write_bytes(_jsonl(rows, "\r")),
    "jsonl.gz": lambda rows, folder: (folder / "rows.jsonl.gz").write_bytes(
        gzip.compress(_jsonl(rows, "\n"))
    ),
    "csv": lambda rows, folder: (folder / "rows.csv").write_bytes(_csv([*rows, ENDED], "\n")),
    "csv, mark, CRLF": lambda rows, folder: (folder / "rows.csv").write_bytes(
        _csv(rows, "\r\n", "\ufeff")
    ),
    "hive folders": _two_folders,
}


def _open(folder: Path, **settings: Any) -> InputSource:
    files = sorted(folder.glob("rows.*"))
    path = files[0] if files else folder
    return open_source(Input.model_validate({"path": str(path), **settings}), seed=7)


@pytest.fixture(scope="module", params=INPUTS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("rows")
    INPUTS[request.param](ROWS, made)
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"filter": "kind = 'b'"},
        {"sample": 900},
        {"sample": 900, "filter": "kind = 'a'", "limit": 700},
        {"sample": 9000, "limit": 5000},
    ],
    ids=str,
)
def test_any_order_gives_the_same_chunks(folder: Path, settings: dict[str, Any]) -> None:
    source = _open(folder, **settings)
    survey = source.survey()
    forward = list(source.chunks(survey, rows=311, columns=["q"]))
    assert sum(len(chunk.ids) for chunk in forward) == survey.rows
    order = [*range(len(forward))]
    random.Random(3).shuffle(order)
    reader = source.reader(survey, rows=311, columns=["q"])
    for number in order:
        chunk = reader.read(number)
        assert chunk.ids == forward[number].ids
        assert chunk.table == forward[number].table
        assert chunk.rows() == forward[number].rows()


def _bytes_read(work: Callable[[], object]) -> int:
    """Bytes that system calls of this process read during the work."""

    def total() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = total()
    work()
    return total() - before


@pytest.mark.parametrize("name", ["parquet", "jsonl", "jsonl, CRLF", "csv", "csv, mark, CRLF"])
def test_a_chunk_that_comes_back_is_read_alone(name: str, tmp_path: Path) -> None:
    INPUTS[name](ROWS, tmp_path)
    source = _open(tmp_path)
    survey = source.survey()
    whole = _bytes_read(lambda: list(source.chunks(survey, rows=50)))
    for number in (100, 60, 20):
        reader = source.reader(survey, rows=50)
        reader.read(110)
        assert _bytes_read(lambda: reader.read(number)) < whole / 2  # noqa: B023  # called at once


def test_ascending_chunks_are_one_pass(tmp_path: Path) -> None:
    INPUTS["jsonl"](ROWS, tmp_path)
    source = _open(tmp_path)
    survey = source.survey()
    whole = _bytes_read(lambda: list(source.chunks(survey, rows=50)))
    reader = source.reader(survey, rows=50)
    assert _bytes_read(lambda: [reader.read(n) for n in range(0, 120, 3)]) <= whole * 1.2


@settings(deadline=None, max_examples=60)
@given(kept=st.lists(st.integers(0, 3), min_size=1, max_size=3 * MOST_STARTS))
def test_the_places_stay_few_and_in_order(kept: list[int]) -> None:
    index, rows = StartIndex(), 0
    for number, more in enumerate(kept * 5):
        index.add(BlockStart(0, (number, 0), number), rows)
        rows += more
    starts = index.finish(None)
    assert starts[0].row == 0
    assert len(starts) <= 2 * MOST_STARTS
    assert all(a.selected <= b.selected for a, b in pairwise(starts))
