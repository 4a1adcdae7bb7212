"""A row's cells and id are those of its own line or file, whatever the other rows are."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.input.redacted_cells import CellRedaction
from batchgen.input.sources import open_source
from batchgen.job.spec import Input
from batchgen.privacy.recognizers import PiiKind
from batchgen.privacy.redact import Redactor, placeholder
from batchgen.records import Row

Lines = Sequence[Mapping[str, object]]


def read(
    folder: Path, *files: Lines, columns: Sequence[str], redaction: CellRedaction | None = None
) -> list[Row]:
    for number, lines in enumerate(files):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{number}.jsonl").write_text(text, "utf-8")
    spec = Input(path=tuple(str(folder / f"{number}.jsonl") for number in range(len(files))))
    source = open_source(spec, seed=0, redaction=redaction)
    survey = source.survey()
    return [row for c in source.chunks(survey, rows=3, columns=columns) for row in c.rows()]


VALUES: dict[str, tuple[object, ...]] = {
    "numbers": (5, 5.0, 5.5, 0, -0.0, 2**53 + 1, 2**70, 1e300),
    "numbers and texts": (5, "5", "five", 5.5, None, "", "1e5", "007"),
    "true, numbers and texts": (True, 1, 1.5, "true", None, False),
    "keys": ({"A": "yes"}, {"A": "yes", "B": "no"}, {"B": None}, {}, None),
    "nested kinds": ({"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": [1]}, {"a": {"b": 1}}, {"a": True}),
    "lists": ([1, 2], [1.5], ["a"], [], [None], [[1]], [{"a": 1}, {"b": 2}], "a", {"a": 1}),
    "messages": (
        [{"role": "user", "content": "x"}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "user", "content": "x", "name": "n"}],
        '[{"role": "user", "content": "x"}]',
    ),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_cells_are_those_of_their_own_line(values: Sequence[object], tmp_path: Path) -> None:
    lines = [{"id": f"r{n}", "v": value} for n, value in enumerate(values)]
    together = read(tmp_path, lines, columns=["v"])
    reversed_ = read(tmp_path, lines[::-1], columns=["v"])[::-1]
    apart = read(tmp_path, *([line] for line in lines), columns=["v"])
    for rows in (together, reversed_, apart):
        # The texts differ where the kinds do: 5, 5.0 and true are equal in Python.
        assert [json.dumps(row.fields["v"]) for row in rows] == [json.dumps(v) for v in values]
        assert [row.id for row in rows] == [line["id"] for line in lines]


def test_cells_far_apart_are_those_of_their_own_line(tmp_path: Path) -> None:
    """The blocks of a file have other types than the whole, and chunks join blocks."""
    lines = [{"v": {"a": n} if n % 5000 else {"b": n + 0.5}} for n in range(60_000)]
    rows = read(tmp_path, lines, columns=["v"])
    assert [row.fields for row in rows] == lines


def test_ids_are_those_of_their_own_line(tmp_path: Path) -> None:
    ids = [1, 2.5, "x", 10**25, True, "2"]
    together = read(tmp_path, [{"id": id_} for id_ in ids], columns=[])
    alone = [read(tmp_path, [{"id": id_}], columns=[])[0].id for id_ in ids]
    assert [row.id for row in together] == alone
    assert alone == ["1", "2.5", "x", str(10**25), "true", "2"]


def test_original_cells_are_redacted(tmp_path: Path) -> None:
    kinds: tuple[PiiKind, ...] = ("email",)
    redaction = CellRedaction(Redactor(kinds, placeholder), None, keeps_ids_distinct=False)
    mail = "a@example.com"
    lines: Lines = [{"v": mail}, {"v": 5}, {"v": [mail, {mail: mail, "k": 7}]}]
    rows = read(tmp_path, lines, columns=["v"], redaction=redaction)
    assert [row.fields["v"] for row in rows] == [
        "[EMAIL]",
        5,
        ["[EMAIL]", {"[EMAIL]": "[EMAIL]", "k": 7}],
    ]


TYPES: dict[str, tuple[pa.Array, ...]] = {
    "numbers": (pa.array([5], pa.int32()), pa.array([5.5]), pa.array([5.0]), pa.array([7])),
    "structs": (pa.array([{"A": "yes"}]), pa.array([{"A": "yes", "B": 1}]), pa.array([None], pa.null())),
    "lists": (pa.array([[1]]), pa.array([[1.5]]), pa.array([[]], pa.list_(pa.int8()))),
    "decimals": (pa.array([Decimal("1.50")]), pa.array([Decimal("1.2500")])),
}  # fmt: skip


@pytest.mark.parametrize("arrays", TYPES.values(), ids=TYPES.keys())
def test_cells_of_parquet_are_those_of_their_own_file(
    arrays: Sequence[pa.Array], tmp_path: Path
) -> None:
    paths = []
    for number, array in enumerate(arrays):
        paths.append(str(tmp_path / f"{number}.parquet"))
        pq.write_table(pa.table({"v": array, "w": ["x"] * len(array)}), paths[-1])

    def cells(spec: Any) -> list[str]:  # one path or several
        source = open_source(Input(path=spec), seed=0)
        chunks = source.chunks(source.survey(), rows=10, columns=["v"])
        return [repr(row.fields["v"]) for chunk in chunks for row in chunk.rows()]

    assert cells(paths) == [cell for path in paths for cell in cells(path)]


def test_cells_of_csv_are_text(tmp_path: Path) -> None:
    values = ["007", "1e5", "true", "5", "5.0", "NaN", "null", "2024-01-01"]
    path = tmp_path / "x.csv"
    path.write_text("v\n" + "".join(value + "\n" for value in values), "utf-8")
    source = open_source(Input(path=str(path)), seed=0)
    (chunk,) = source.chunks(source.survey(), rows=10, columns=["v"])
    assert [row.fields["v"] for row in chunk.rows()] == values
