"""Streaming input: row numbers, selection and chunks are the same in every format."""

import hashlib
import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.input.sources import Chunk, InputSource, Survey, open_source
from batchgen.job.spec import Input
from batchgen.records import Row

Rows = Sequence[dict[str, Any]]


def write_csv(rows: Rows, path: Path) -> None:
    lines = [",".join(rows[0]), *(",".join(str(cell) for cell in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_jsonl(rows: Rows, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_parquet(rows: Rows, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=700)


WRITERS: dict[str, Callable[[Rows, Path], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
formats = pytest.mark.parametrize("format", WRITERS)


def open_rows(rows: Rows, folder: Path, format: str, **settings: Any) -> InputSource:
    path = folder / f"rows.{format}"
    WRITERS[format](rows, path)
    seed = settings.pop("seed", 0)
    return open_source(Input.model_validate({"path": str(path), **settings}), seed=seed)


def ids_of(chunks: Sequence[Chunk]) -> list[str]:
    return [id_ for chunk in chunks for id_ in chunk.ids]


def read(
    source: InputSource, rows: int = 100, columns: Sequence[str] = ()
) -> tuple[Survey, list[Chunk]]:
    survey = source.survey()
    return survey, list(source.chunks(survey, rows=rows, columns=columns))


MANY = [{"key": f"k{n}", "q": f"question {n}", "kind": "ab"[n % 2]} for n in range(5000)]


@formats
def test_chunks_hold_the_rows_in_order(format: str, tmp_path: Path) -> None:
    survey, chunks = read(open_rows(MANY, tmp_path, format), rows=2048)
    assert survey.rows == 5000
    assert [(c.number, c.first, len(c.ids), c.table.num_rows) for c in chunks] == [
        (0, 0, 2048, 2048),
        (1, 2048, 2048, 2048),
        (2, 4096, 904, 904),
    ]
    assert all(chunk.table.schema == survey.schema for chunk in chunks)
    assert [row for chunk in chunks for row in chunk.table.to_pylist()] == MANY


@formats
def test_rows_have_the_requested_columns(format: str, tmp_path: Path) -> None:
    source = open_rows(MANY, tmp_path, format, columns={"id": "key"})
    _, chunks = read(source, rows=2048, columns=["kind", "q"])
    assert chunks[1].rows()[1] == Row(2049, "k2049", {"kind": "b", "q": "question 2049"})
    assert [row.fields for row in read(source, rows=2048)[1][2].rows()] == [{}] * 904


@formats
@pytest.mark.parametrize("rows", [1000, 2048, 5000, 9000])
def test_skipping_chunks_does_not_change_the_others(format: str, rows: int, tmp_path: Path) -> None:
    source = open_rows(MANY, tmp_path, format)
    survey, chunks = read(source, rows)
    for skip in ({0}, {1}, {len(chunks) - 1}, set(range(len(chunks)))):
        found = list(source.chunks(survey, rows=rows, skip=skip))
        assert [chunk.number for chunk in found] == [n for n in range(len(chunks)) if n not in skip]
        for chunk in found:
            assert chunk.table == chunks[chunk.number].table
            assert chunk.ids == chunks[chunk.number].ids


IDS: dict[str, tuple[Rows, str | None, str | None, list[str]]] = {
    "row numbers": ([{"q": "a"}, {"q": "b"}], None, None, ["0", "1"]),
    "a column called id": ([{"id": "x"}, {"id": "y"}], None, "id", ["x", "y"]),
    "the column named": ([{"id": "x", "key": "1"}, {"id": "x", "key": "2"}], "key", "key", ["1", "2"]),
}  # fmt: skip


@formats
@pytest.mark.parametrize(("rows", "named", "column", "expected"), IDS.values(), ids=IDS.keys())
def test_ids(
    rows: Rows,
    named: str | None,
    column: str | None,
    expected: list[str],
    format: str,
    tmp_path: Path,
) -> None:
    source = open_rows(rows, tmp_path, format, columns={"id": named})
    assert source.id_column == column
    assert ids_of(read(source)[1]) == expected


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_ids_of_other_types_become_text(format: str, tmp_path: Path) -> None:
    assert ids_of(read(open_rows([{"id": 7}, {"id": -1}], tmp_path, format))[1]) == ["7", "-1"]


@formats
def test_ids_are_kept_as_they_are_written(format: str, tmp_path: Path) -> None:
    ids = ["NaN", "None", "null", " a", "A", "e\u0301"]
    assert ids_of(read(open_rows([{"id": one} for one in ids], tmp_path, format))[1]) == ids


@formats
def test_row_numbers_are_those_of_the_whole_input(format: str, tmp_path: Path) -> None:
    _, chunks = read(open_rows(MANY, tmp_path, format, filter="kind = 'b'", limit=3))
    assert ids_of(chunks) == ["1", "3", "5"]
    assert [row.index for row in chunks[0].rows()] == [0, 1, 2]


@formats
def test_duplicate_ids_outside_the_filter_are_allowed(format: str, tmp_path: Path) -> None:
    rows = [{"id": "a", "keep": "no"}, {"id": "a", "keep": "yes"}, {"id": "b", "keep": "yes"}]
    assert ids_of(read(open_rows(rows, tmp_path, format, filter="keep = 'yes'"))[1]) == ["a", "b"]


@formats
def test_a_sample_keeps_the_input_order(format: str, tmp_path: Path) -> None:
    _, chunks = read(open_rows(MANY, tmp_path, format, sample=500))
    numbers = [int(id_) for id_ in ids_of(chunks)]
    assert len(numbers) == 500
    assert numbers == sorted(set(numbers))
    assert 2300 < sum(numbers) / 500 < 2700


def test_a_sample_does_not_depend_on_format_or_chunks(tmp_path: Path) -> None:
    draws = {
        (format, rows): tuple(
            ids_of(read(open_rows(MANY, tmp_path, format, sample=99, seed=5), rows)[1])
        )
        for format in WRITERS
        for rows in (7, 1000)
    }
    assert len(set(draws.values())) == 1
    assert ids_of(read(open_rows(MANY, tmp_path, "csv", sample=99, seed=6))[1]) != list(
        draws["csv", 7]
    )


COUNTS = {
    "limit": ({"limit": 10}, 10),
    "limit beyond the end": ({"limit": 10_000}, 5000),
    "sample beyond the end": ({"sample": 10_000}, 5000),
    "sample of all": ({"sample": 5000}, 5000),
    "limit after sample": ({"sample": 20, "limit": 5}, 5),
    "sample after filter": ({"filter": "kind = 'a'", "sample": 2499}, 2499),
    "all three": ({"filter": "kind = 'a'", "sample": 30, "limit": 40}, 30),
}


@formats
@pytest.mark.parametrize(("choice", "count"), COUNTS.values(), ids=COUNTS.keys())
def test_counts(choice: dict[str, Any], count: int, format: str, tmp_path: Path) -> None:
    survey, chunks = read(open_rows(MANY, tmp_path, format, **choice), rows=64)
    assert survey.rows == len(ids_of(chunks)) == count


def test_limit_takes_the_first_of_the_sample(tmp_path: Path) -> None:
    whole = ids_of(read(open_rows(MANY, tmp_path, "csv", sample=50))[1])
    assert ids_of(read(open_rows(MANY, tmp_path, "csv", sample=50, limit=20))[1]) == whole[:20]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 300),
    rows=st.integers(1, 320),
    sample=st.none() | st.integers(1, 320),
    limit=st.none() | st.integers(1, 320),
    skip=st.sets(st.integers(0, 10)),
)
def test_chunks_equal_slices_of_one_list_of_rows(
    count: int,
    rows: int,
    sample: int | None,
    limit: int | None,
    skip: set[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    source = open_rows(
        MANY[:count], folder, "parquet", filter="kind = 'a'", sample=sample, limit=limit
    )
    survey = source.survey()
    (whole,) = source.chunks(survey, rows=1000)
    expected = whole.table.to_pylist()
    assert all(row["kind"] == "a" for row in expected)
    for chunk in source.chunks(survey, rows=rows, skip=skip):
        assert chunk.number not in skip
        assert chunk.table.to_pylist() == expected[chunk.first : chunk.first + rows]


def test_the_survey_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q\nx\n")
    (tmp_path / "b.csv").write_text("q\ny\n")
    survey = open_source(Input(path=str(tmp_path)), seed=0).survey()
    assert [file.path.name for file in survey.files] == ["a.csv", "b.csv"]
    assert survey.files[0].sha256 == hashlib.sha256(b"q\nx\n").hexdigest()
    again = open_source(Input(path=str(tmp_path)), seed=0).survey()
    assert again == survey


def test_messages_are_read_as_lists_of_mappings(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "你好"}]
    for format in ("jsonl", "parquet"):
        source = open_rows([{"m": turns}], tmp_path, format, columns={"messages": "m"})
        (chunk,) = read(source, columns=["m"])[1]
        assert chunk.rows()[0].fields == {"m": turns}


@formats
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(format: str, tmp_path: Path) -> None:
    """Twelve times the rows need only eight more bytes per row, for the check of unique ids."""

    def peak(count: int) -> int:
        rows = [{"id": str(n), "q": f"{n} " + "What is it? " * 25} for n in range(count)]
        source = open_rows(rows, tmp_path, format)
        del rows
        pool = pa.default_memory_pool()
        arrow = 0
        tracemalloc.start()
        before = pool.bytes_allocated()
        survey = source.survey()
        for chunk in source.chunks(survey, rows=2048, columns=["q"]):
            chunk.rows()
            arrow = max(arrow, pool.bytes_allocated() - before)
        _, python = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return arrow + python

    # The longer file has 15 MB of text more.
    small, large = peak(5_000), peak(60_000)
    assert large - small < 4_000_000 + 20 * 55_000
