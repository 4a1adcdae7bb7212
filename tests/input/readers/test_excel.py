"""Excel: cells as text, sheets, and workbooks that cannot be used."""

import builtins
import datetime as dt
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook
from xlsxwriter import Workbook as ExcelWriter

from batchgen.errors import DataError
from batchgen.input.readers import excel
from batchgen.input.sources import InputSource, open_source
from batchgen.job.spec import Input


def write_sheets(path: Path, **sheets: Sequence[Any]) -> None:
    workbook = Workbook()
    workbook.remove(workbook.active)
    for title, rows in sheets.items():
        sheet = workbook.create_sheet(title)
        for row in rows:
            sheet.append(row)
    workbook.save(path)


def source_of(path: Path, **settings: Any) -> InputSource:
    return open_source(Input.model_validate({"path": str(path), **settings}), seed=0)


def rows_of(path: Path, **settings: Any) -> list[dict[str, object]]:
    source = source_of(path, **settings)
    survey = source.survey()
    return [row for chunk in source.chunks(survey, rows=7) for row in chunk.table.to_pylist()]


CELLS: dict[str, tuple[object, str | None]] = {
    "text": ("你好", "你好"),
    "text with white space": (" a\nb ", " a\nb "),
    "leading zeros of text": ("00123", "00123"),
    "whole number": (5, "5"),
    "whole number as a fraction": (5.0, "5"),
    "negative": (-7, "-7"),
    "fraction": (2.5, "2.5"),
    "sum of fractions": (0.1 + 0.2, "0.3"),
    "large number": (123456789012, "123456789012"),
    "larger number": (1e20, "100000000000000000000"),
    "small number": (1e-7, "1e-07"),
    "date": (dt.date(2024, 1, 31), "2024-01-31"),
    "date and time": (dt.datetime(2024, 1, 31, 12, 30), "2024-01-31 12:30:00"),  # noqa: DTZ001
    "time": (dt.time(12, 30), "12:30:00"),
    "duration": (dt.timedelta(hours=30, seconds=5), "30:00:05"),
    "true": (True, "TRUE"),
    "false": (False, "FALSE"),
    "empty": (None, None),
    "error": ("#N/A", "#N/A"),
}


@pytest.mark.parametrize(("cell", "expected"), CELLS.values(), ids=CELLS.keys())
def test_cells_are_text(cell: object, expected: str | None, tmp_path: Path) -> None:
    write_sheets(tmp_path / "x.xlsx", 题目=[["id", "值"], ["a", cell]])
    assert rows_of(tmp_path / "x.xlsx") == [{"id": "a", "值": expected}]


def test_a_cell_does_not_depend_on_other_rows(tmp_path: Path) -> None:
    write_sheets(tmp_path / "x.xlsx", s=[["n"], [5], [2.5], ["x"], [True]])
    assert [row["n"] for row in rows_of(tmp_path / "x.xlsx")] == ["5", "2.5", "x", "TRUE"]


def test_formulas_are_read_as_their_stored_values(tmp_path: Path) -> None:
    writer = ExcelWriter(tmp_path / "x.xlsx")
    sheet = writer.add_worksheet()
    sheet.write_row(0, 0, ["id", "double", "note"])
    sheet.write(1, 0, 4)
    sheet.write_formula(1, 1, "=A2*2", None, 8)
    sheet.write_formula(1, 2, '=IF(A2=4,"","x")', None, "")
    writer.close()
    assert rows_of(tmp_path / "x.xlsx") == [{"id": "4", "double": "8", "note": None}]


def test_empty_rows_and_columns_are_skipped(tmp_path: Path) -> None:
    rows = [
        [],
        [None, "id", None, "q"],
        [],
        [None, 1, None, "a"],
        [None, None],
        [None, 2, None, "b"],
    ]
    write_sheets(tmp_path / "x.xlsx", s=rows)
    assert rows_of(tmp_path / "x.xlsx") == [{"id": "1", "q": "a"}, {"id": "2", "q": "b"}]


def test_sheets(tmp_path: Path) -> None:
    path = tmp_path / "x.xlsx"
    workbook = Workbook()
    workbook.active.append(["hidden"])
    workbook.active.sheet_state = "hidden"
    for title in ("问题", "more"):
        sheet = workbook.create_sheet(title)
        sheet.append(["id", "from"])
        sheet.append([1, title])
    workbook.save(path)
    assert source_of(path).describe() == "excel, sheet '问题'"
    assert rows_of(path) == [{"id": "1", "from": "问题"}]
    assert rows_of(path, excel={"sheet": "more"}) == [{"id": "1", "from": "more"}]
    with pytest.raises(DataError, match=r"input\.excel\.sheet.*no sheet 'mor'") as caught:
        source_of(path, excel={"sheet": "mor"})
    assert "问题, more" in caught.value.hint


def test_many_rows(tmp_path: Path) -> None:
    write_sheets(tmp_path / "x.xlsx", s=[["id", "q"], *([n, f"question {n}"] for n in range(3000))])
    assert [row["id"] for row in rows_of(tmp_path / "x.xlsx")] == [str(n) for n in range(3000)]


def damaged_sheet(path: Path) -> None:
    write_sheets(path.with_suffix(".zip"), s=[["id"], [1]])
    with zipfile.ZipFile(path.with_suffix(".zip")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content[:-40] if "sheet1" in name else content)


def row_far_down(path: Path) -> None:
    write_sheets(path.with_suffix(".zip"), s=[["id"], [1]])
    with zipfile.ZipFile(path.with_suffix(".zip")) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = (
                old.read(name)
                .replace(b'r="2"', b'r="999999999"')
                .replace(b'r="A2"', b'r="A999999999"')
            )
            new.writestr(name, content)


REFUSED: dict[str, tuple[Any, str]] = {
    "text": (lambda path: path.write_text("id\n1\n"), "not a complete .xlsx workbook"),
    "nothing": (lambda path: path.write_bytes(b""), "not a complete .xlsx workbook (0 bytes)"),
    "an archive of something else": (lambda path: zipfile.ZipFile(path, "w").close(), "the workbook is damaged"),
    "Excel 97": (lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600), "has a password"),
    "a damaged sheet": (damaged_sheet, "the workbook is damaged"),
    "no cells": (lambda path: write_sheets(path, s=[]), "sheet 's' is empty"),
    "a header alone": (lambda path: write_sheets(path, s=[["id"]]), "no rows"),
    "a column twice": (lambda path: write_sheets(path, s=[["a", "b", "a"], [1, 2, 3]]), "cell A1: the header has column 'a' twice"),
    "a value without a header": (lambda path: write_sheets(path, s=[["a", None], [1, 2]]), "cell B2 has a value"),
    "formulas without values": (lambda path: write_sheets(path, s=[["a", "b"], [1, "=A2*2"]]), "cell B2 contains a formula"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    write, message = REFUSED[name]
    write(tmp_path / "x.xlsx")
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / "x.xlsx")
    assert message in str(caught.value)
    assert caught.value.hint


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row_far_down(tmp_path / "x.xlsx")
    monkeypatch.setattr(excel, "ROW_LIMIT", 1000)
    with pytest.raises(DataError, match="more than 1,000 rows"):
        rows_of(tmp_path / "x.xlsx")
    monkeypatch.setattr(excel, "UNPACK_LIMIT", 1000)
    with pytest.raises(DataError, match="the limit is 0 MiB"):
        rows_of(tmp_path / "x.xlsx")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sheets(tmp_path / "x.xlsx", s=[["id"], [1]])
    imports = builtins.__import__

    def without_openpyxl(name: str, *rest: Any, **settings: Any) -> Any:
        if name == "openpyxl":
            raise ImportError(name)
        return imports(name, *rest, **settings)

    monkeypatch.setattr(builtins, "__import__", without_openpyxl)
    with pytest.raises(DataError) as caught:
        source_of(tmp_path / "x.xlsx")
    assert "pip install 'batchgen-llm[excel]'" in caught.value.hint
