"""Files that an input path selects, their order, and the columns from hive folders."""

import gzip
import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from batchgen.input.files import find_files
from batchgen.input.sources import open_source
from batchgen.job.spec import Input

ROWS = "id,q\n{0},a\n"


def make(folder: Path, names: Iterable[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROWS.format(number))


def found(folder: Path, *paths: str, format: str = "auto") -> list[str]:
    spec = Input.model_validate({"path": [str(folder / path) for path in paths], "format": format})
    return [file.path.relative_to(folder).as_posix() for file in find_files(spec)]


TREE = [
    "b.csv", "a.csv", "C.CSV", "sub/c.tsv", "sub/deep/d.csv", "_SUCCESS", ".a.csv.crc", "a.csv.tmp",
    "_tmp.csv", ".hidden/x.csv", "_temporary/x.csv", "manifest.json", "notes.txt",
]  # fmt: skip

CHOICES: dict[str, tuple[list[str], str, list[str]]] = {
    "a file": (["b.csv"], "auto", ["b.csv"]),
    "a file of any name with a format": (["notes.txt"], "csv", ["notes.txt"]),
    "a folder": (["."], "auto", ["C.CSV", "a.csv", "b.csv", "sub/c.tsv", "sub/deep/d.csv"]),
    "a glob": (["*.csv"], "auto", ["a.csv", "b.csv"]),
    "a glob through folders": (["**/*.csv"], "auto", ["a.csv", "b.csv", "sub/deep/d.csv"]),
    "a glob of folders": (["su*"], "auto", ["sub/c.tsv", "sub/deep/d.csv"]),
    "a glob with a format": (["n*.txt"], "csv", ["notes.txt"]),
    "a glob that matches hidden names": (["_*/*.csv"], "auto", ["_temporary/x.csv"]),
    "a list keeps its order": (["sub", "b.csv", "a.csv"], "auto", ["sub/c.tsv", "sub/deep/d.csv", "b.csv", "a.csv"]),
}  # fmt: skip


@pytest.mark.parametrize(("paths", "format", "expected"), CHOICES.values(), ids=CHOICES.keys())
def test_choice(paths: list[str], format: str, expected: list[str], tmp_path: Path) -> None:
    make(tmp_path, TREE)
    assert found(tmp_path, *paths, format=format) == expected


def test_json_files_among_others_are_skipped(tmp_path: Path) -> None:
    make(tmp_path, ["both/a.csv", "both/schema.json", "json/a.json", "json/b.json"])
    assert found(tmp_path, "both") == ["both/a.csv"]
    assert found(tmp_path, "both", format="json") == ["both/schema.json"]
    assert found(tmp_path, "json") == ["json/a.json", "json/b.json"]


def test_a_file_name_may_contain_brackets(tmp_path: Path) -> None:
    make(tmp_path, ["a[1].csv", "a1.csv"])
    assert found(tmp_path, "a[1].csv") == ["a[1].csv"]


def test_linked_files_and_folders_are_followed(tmp_path: Path) -> None:
    make(tmp_path, ["elsewhere/a.csv", "elsewhere/more/b.csv"])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.csv").symlink_to(tmp_path / "elsewhere/a.csv")
    (tmp_path / "in/y").symlink_to(tmp_path / "elsewhere/more")
    assert found(tmp_path, "in") == ["in/x.csv", "in/y/b.csv"]


def test_file_attributes(tmp_path: Path) -> None:
    make(tmp_path, ["a.csv"])
    os.utime(tmp_path / "a.csv", ns=(1, 1_700_000_000_123_456_789))
    (file,) = find_files(Input(path=str(tmp_path / "a.csv")))
    assert (file.format, file.compression, file.partitions) == ("csv", "none", ())
    assert (file.size, file.modified_ns) == (9, 1_700_000_000_123_456_789)


HIVE = ["in/lang=zh/day=1%2F2/a.csv", f"in/lang={'__HIVE_DEFAULT_PARTITION__'}/day=%E7%A7%91/b.csv"]


@pytest.mark.parametrize("path", ["in", "in/*", "in/**/*.csv", "in/lang=*/day=*/*.csv"])
def test_hive_folders_become_text_columns(path: str, tmp_path: Path) -> None:
    make(tmp_path, HIVE)
    source = open_source(Input(path=str(tmp_path / path)), seed=0)
    assert source.columns == ("id", "q", "lang", "day")
    survey = source.survey()
    assert survey.schema.field("lang").type == pa.string()
    (chunk,) = source.chunks(survey, rows=10)
    assert chunk.table.to_pylist() == [
        {"id": "1", "q": "a", "lang": None, "day": "科"},
        {"id": "0", "q": "a", "lang": "zh", "day": "1/2"},
    ]


def test_hive_folders_can_be_filtered(tmp_path: Path) -> None:
    make(tmp_path, HIVE)
    source = open_source(Input(path=str(tmp_path / "in"), filter="lang = 'zh'"), seed=0)
    (chunk,) = source.chunks(source.survey(), rows=10)
    assert chunk.ids == ("0",)


def test_a_column_of_the_file_overrides_the_partition_column(tmp_path: Path) -> None:
    make(tmp_path, ["in/q=zh/a.csv"])
    source = open_source(Input(path=str(tmp_path / "in")), seed=0)
    (chunk,) = source.chunks(source.survey(), rows=10)
    assert chunk.table.to_pylist() == [{"id": "0", "q": "a"}]


def test_a_named_file_has_no_partition_columns(tmp_path: Path) -> None:
    make(tmp_path, ["lang=zh/a.csv"])
    assert open_source(Input(path=str(tmp_path / "lang=zh/a.csv")), seed=0).columns == ("id", "q")


@pytest.mark.parametrize("compression", ["gz", "zst"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_compressed(name: str, compression: str, tmp_path: Path) -> None:
    text = ROWS.format(7) if name.endswith("csv") else '{"id": 7, "q": "a"}\n'
    content = (text * 1).encode()
    path = tmp_path / f"{name}.{compression}"
    if compression == "gz":
        # Two members, as from `cat a.gz b.gz`.
        path.write_bytes(gzip.compress(content[:5]) + gzip.compress(content[5:]))
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(content)
    source = open_source(Input(path=str(path)), seed=0)
    survey = source.survey()
    assert survey.rows == 1
    assert {"gz": "gzip", "zst": "zstd"}[compression] in source.describe()
    (chunk,) = source.chunks(survey, rows=10)
    assert chunk.ids == ("7",)


DESCRIPTIONS = {
    "one file": (["a.csv"], 'csv, utf-8, ","'),
    "several": (["a.csv", "b.csv"], 'csv, 2 files, utf-8, ","'),
    "JSON lines": (["a.jsonl"], "jsonl"),
}


@pytest.mark.parametrize(("names", "expected"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_description(names: list[str], expected: str, tmp_path: Path) -> None:
    for name in names:
        text = '{"a": 1}\n' if name.endswith("jsonl") else ROWS.format(name)
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in names]
    assert open_source(Input.model_validate({"path": paths}), seed=0).describe() == expected
