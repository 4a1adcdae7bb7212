"""Write answers for people and for other programs: CSV and XLSX for spreadsheets, JSON Lines, Markdown for reading."""

import csv
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.arrow.values import json_value
from batchgen.errors import DataError, UsageError
from batchgen.inspection.answer_table import AnswerTable, RowSelection
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import is_folder

CELL_CHARACTERS = 32_767
"""Limit of a cell in XLSX, as for the next two: "Excel specifications and limits", support.microsoft.com."""
SHEET_ROWS = 1_048_576
SHEET_COLUMNS = 16_384

_EXACT_INTEGERS = 2**53
"""Spreadsheets keep numbers as doubles."""
_BLOCK = 20_000
"""Rows in memory."""

_FORMULA = re.compile(r"\s*(?:[=＝]|[+\-@＋－＠].*\w[(|])", re.DOTALL)
"""Texts that a spreadsheet program runs when it opens a CSV file: = begins any formula; + - @ begin lists and numbers too,
but a formula that calls a function has ( after its name, and one that starts a program has | there."""

Row = Mapping[str, Any]


@dataclass(slots=True)
class ExportCount:
    """What was written.

    Attributes:
        cut: cells that were longer than the format allows.
        quoted: cells of a CSV file that resemble formulas, which begin with an apostrophe there.
    """

    rows: int = 0
    cut: int = 0
    quoted: int = 0


RowWriter = Callable[[Row], None]
_Open = Callable[[Path, Sequence[str], ExportCount], AbstractContextManager[RowWriter]]


def export(
    table: AnswerTable, selection: RowSelection, target: Path, columns: Sequence[str] = ()
) -> ExportCount:
    """Write the chosen rows to `target`, whose suffix decides the format; an existing file is replaced when all is written.

    Raises:
        UsageError: the format or a column is unknown, or the rows do not fit into the format.
        DataError: the package that writes the format is missing.
        ResourceError: the disk is full or read-only.
    """
    kind = target.suffix.lower()
    if kind not in _FORMATS:
        raise UsageError(
            f"{target}: unknown format {kind!r}",
            hint=f"End the name of the file in {', '.join(_FORMATS)}.",
        )
    if unknown := [name for name in columns if name not in table.schema.names]:
        raise UsageError(
            f"{table.path} has no column {unknown[0]!r}",
            hint=f"Its columns are {', '.join(table.schema.names)}.",
        )
    if not is_folder(target.absolute().parent):
        problem = f"cannot write {target}: the folder {target.absolute().parent} does not exist"
        raise UsageError(problem, hint="Create the folder, or choose another one.")
    names = list(columns) or _default_columns(table, kind)
    rows = _read(table, table.select(selection), names)
    count = ExportCount()
    unfinished = target.with_name(f".{uuid.uuid4().hex}{kind}")
    with disk_errors("cannot write", target), _removed_after(unfinished):
        with _FORMATS[kind](unfinished, names, count) as write:
            for row in rows:
                write(row)
                count.rows += 1
        unfinished.replace(target)
    return count


def _default_columns(table: AnswerTable, kind: str) -> list[str]:
    """All columns; for reading, those with texts and scores."""
    if kind != ".md" or not table.has_answers:
        return list(table.schema.names)
    read = ("id", "messages", "reasoning", "response", "error_code", "error")
    return [*(table.prefix + name for name in read), *table.score_columns]


def _read(table: AnswerTable, rows: Sequence[int], names: Sequence[str]) -> Iterator[Row]:
    for block in (rows[n : n + _BLOCK] for n in range(0, len(rows), _BLOCK)):
        for row in table.take(block):
            yield {name: row[name] for name in names}


@contextmanager
def _removed_after(path: Path) -> Iterator[None]:
    """Remove the file at the end, unless it was renamed."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _csv(path: Path, names: Sequence[str], count: ExportCount) -> Iterator[RowWriter]:
    def cell(value: object) -> str:
        text = _text(value)
        if isinstance(value, int | float) or not _FORMULA.match(text):
            return text
        count.quoted += 1
        return f"'{text}"

    # Excel takes a file without a byte order mark for the encoding of the machine.
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([cell(name) for name in names])
        yield lambda row: writer.writerow([cell(value) for value in row.values()])


@contextmanager
def _jsonl(path: Path, _: Sequence[str], __: ExportCount) -> Iterator[RowWriter]:
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: print(json.dumps(json_value(row), ensure_ascii=False), file=file)


@contextmanager
def _xlsx(path: Path, names: Sequence[str], count: ExportCount) -> Iterator[RowWriter]:
    try:
        import xlsxwriter  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise DataError(
            "writing .xlsx requires the package xlsxwriter",
            hint="Install it: pip install 'batchgen-llm[excel]'.",
        ) from error
    if len(names) > SHEET_COLUMNS:
        problem = f"{len(names):,} columns; a sheet has at most {SHEET_COLUMNS:,}"
        raise UsageError(problem, hint="Choose some with --columns, or write .csv.")
    # Text stays text: an answer that begins with = is not a formula.
    options = dict.fromkeys(("strings_to_formulas", "strings_to_urls", "strings_to_numbers"), False)
    with xlsxwriter.Workbook(path, {**options, "constant_memory": True}) as book:
        sheet = book.add_worksheet("answers")
        bold = book.add_format({"bold": True})
        wrapped = book.add_format({"text_wrap": True, "valign": "top"})
        sheet.set_column(0, len(names) - 1, 24)
        sheet.freeze_panes(1, 0)
        sheet.write_row(0, 0, list(names), bold)

        def write(row: Row) -> None:
            if count.rows + 2 > SHEET_ROWS:
                problem = f"a sheet has at most {SHEET_ROWS - 1:,} rows below its header"
                raise UsageError(problem, hint="Choose some with -n or --where, or write .csv.")
            for column, value in enumerate(row.values()):
                if _is_number(value):
                    sheet.write_number(count.rows + 1, column, value, wrapped)
                    continue
                text = _text(value)
                count.cut += len(text) > CELL_CHARACTERS
                sheet.write_string(count.rows + 1, column, text[:CELL_CHARACTERS], wrapped)

        yield write


@contextmanager
def _markdown(path: Path, names: Sequence[str], _: ExportCount) -> Iterator[RowWriter]:
    """A heading for each row, then each column that has a value; the turns of a prompt under their roles."""
    with path.open("w", encoding="utf-8") as file:

        def write(row: Row) -> None:
            title = next((str(row[name]) for name in ("id", names[0]) if name in row), "")
            file.write(f"## {' '.join(title.split())}\n\n")
            for name in names:
                value = row[name]
                turns = value if name.endswith("messages") and isinstance(value, list) else None
                for label, content in _labelled(name, value, turns):
                    quoted = content.replace("\n", "\n> ")
                    file.write(f"**{label}**\n\n> {quoted}\n\n")

        yield write


def _labelled(
    name: str, value: object, turns: Sequence[Mapping[str, str]] | None
) -> Iterator[tuple[str, str]]:
    if turns is not None:
        yield from ((turn["role"], turn["content"] or "") for turn in turns)
    elif value is not None and _text(value):
        yield name, _text(value)


_FORMATS: Mapping[str, _Open] = {
    ".csv": _csv,
    ".xlsx": _xlsx,
    ".jsonl": _jsonl,
    ".md": _markdown,
}


def _text(value: object) -> str:
    """A cell as text: nested values as JSON, null as nothing."""
    plain = json_value(value)
    if plain is None:
        return ""
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (isinstance(value, float) or abs(value) <= _EXACT_INTEGERS)
