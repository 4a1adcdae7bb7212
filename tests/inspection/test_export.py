"""Exported files, read by other programs: Python's csv and json, openpyxl."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchgen.__main__ import call
from batchgen.errors import UsageError
from batchgen.inspection.answer_table import RowSelection, open_answer_table
from batchgen.inspection.export import CELL_CHARACTERS, SHEET_COLUMNS, export
from batchgen.jobfile.load import load_job
from batchgen.run.run import run

MakeJob = Callable[..., Path]
ROWS = [
    {"q": '你好，"世界"\n第二行', "n": 1},
    {"q": "=1+1", "n": 2},
    {"q": "- a, b; c\t\x07", "n": 2**60 + 1},
]


@pytest.fixture
def answers(make_job: MakeJob) -> Path:
    return run(load_job(make_job(ROWS))).folder.path


def write(path: Path, target: Path, **selection: Any) -> None:
    count = export(open_answer_table(path), RowSelection(**selection), target)
    assert count.cut == 0


def test_csv(answers: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    write(answers, target)
    assert target.read_bytes().startswith(b"\xef\xbb\xbf")  # Excel needs it for UTF-8
    with target.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [str(row["q"]) for row in ROWS]
    assert [row["response"] for row in rows] == [texts[0], f"'{texts[1]}", texts[2]]
    assert [row["n"] for row in rows] == [str(row["n"]) for row in ROWS]
    assert rows[0]["error"] == ""
    assert json.loads(rows[1]["messages"]) == [{"role": "user", "content": "=1+1"}]


FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1",
    "@SUM(A1)",
    "+HYPERLINK(A1)",
    "- 2+cmd|'/C calc'!A0",
    "＝1",
]
TEXTS = [
    "- a list (short)\n- [more](x)",
    "-1",
    "+8613800138000",
    "@anna",
    "a=b(c)",
    "'=1",
    "",
    "(x)",
]


def test_csv_has_no_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, target = tmp_path / "plain.parquet", tmp_path / "x.csv"
    table = pa.table({"=A1": [*FORMULAS, *TEXTS], "n": [-1.5] * 16, "l": [["=1"]] * 16})
    pq.write_table(table, plain)
    assert call(["export", str(plain), "-o", str(target)]) == 0
    assert "9 cells resembled formulas" in capsys.readouterr().err
    with target.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=A1", "n", "l"]
    assert [row[0] for row in rows] == [*(f"'{text}" for text in FORMULAS), *TEXTS]
    assert {(row[1], row[2]) for row in rows} == {("-1.5", '["=1"]')}


def test_jsonl(answers: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.jsonl"
    write(answers, target, where="n > 1", sort="n", descending=True)
    rows = [json.loads(line) for line in target.read_text("utf-8").split("\n")[:-1]]
    assert [row["n"] for row in rows] == [2**60 + 1, 2]
    assert rows[0]["messages"] == [{"role": "user", "content": ROWS[2]["q"]}]
    assert rows[0]["error"] is None


def test_xlsx(answers: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.xlsx"
    write(answers, target)
    header, *cells = openpyxl.load_workbook(target).active.iter_rows()
    columns = {cell.value: n for n, cell in enumerate(header)}
    texts = [row[columns["response"]] for row in cells]
    assert [cell.value for cell in texts][:2] == [row["q"] for row in ROWS[:2]]
    assert {cell.data_type for cell in texts} == {"s"}  # not f, a formula
    # A double has no 2**60 + 1.
    assert [row[columns["n"]].value for row in cells] == [1, 2, str(2**60 + 1)]


def test_xlsx_has_limits(tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"a": ["x" * (CELL_CHARACTERS + 1), "y"]}), plain)
    target = tmp_path / "x.xlsx"
    assert export(open_answer_table(plain), RowSelection(), target).cut == 1
    sheet = openpyxl.load_workbook(target).active
    assert [len(cell.value) for cell in sheet["A"]] == [1, CELL_CHARACTERS, 1]
    pq.write_table(pa.table({f"c{n}": [1] for n in range(SHEET_COLUMNS + 1)}), plain)
    with pytest.raises(UsageError, match="16,385 columns"):
        export(open_answer_table(plain), RowSelection(), target)


def test_markdown(answers: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.md"
    write(answers, target, row_id="0")
    assert target.read_text("utf-8") == (
        '## 0\n\n**id**\n\n> 0\n\n**user**\n\n> 你好，"世界"\n> 第二行\n\n'
        '**response**\n\n> 你好，"世界"\n> 第二行\n\n'
    )


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("x.pdf", [], "unknown format '.pdf'"),
        ("x", [], "unknown format ''"),
        ("nope/x.csv", [], "does not exist"),
        ("x.csv", ["--columns", "nope"], "has no column 'nope'"),
        ("x.csv", ["--sort", "nope"], "has no column 'nope'"),
    ],
)
def test_what_cannot_be_written_is_refused(
    answers: Path,
    tmp_path: Path,
    target: str,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(tmp_path.iterdir())
    assert call(["export", str(answers), "-o", str(tmp_path / target), *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_columns_are_written_in_the_given_order(answers: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    command = ["export", str(answers), "-o", str(target), "--columns", "response,n", "-n", "1"]
    assert call(command) == 0
    assert target.read_text("utf-8-sig").splitlines()[0] == "response,n"
