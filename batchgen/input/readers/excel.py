"""Excel workbooks (.xlsx) as batches in which every column is text, as if the sheet had been saved as CSV.

The first row that is not empty is the header. Whole numbers are written without a fraction, dates as 2024-01-31, and
true and false as Excel shows them. Formulas are read as the values that Excel stored. Needs the extra `excel`.
"""

import datetime as dt
import re
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from batchgen.arrow.types import Position, TableBatch, conform_table
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import check_cells
from batchgen.job.spec import ExcelOptions

BATCH_ROWS = 1024
UNPACK_LIMIT = 1 << 30
"""Most bytes of a workbook when unpacked."""
ROW_LIMIT = 1_048_576
"""Most rows of a sheet, as in Excel."""

_FORMULA = re.compile(rb"<f[ >]")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PLAIN = 1e21
"""Whole numbers below it are written without an exponent."""
_AGAIN = "Save it again in Excel or LibreOffice."


@dataclass(frozen=True, slots=True)
class ExcelFile:
    """A sheet whose header has been read. `fields` are the positions of the columns in its rows."""

    file: InputFile
    sheet: str
    columns: tuple[str, ...]
    fields: tuple[int, ...]

    def batches(
        self,
        schema: pa.Schema,
        originals_of: Collection[str] = (),  # noqa: ARG002  # texts are always as they were
        start: Position | None = None,  # noqa: ARG002  # no batch has a position
    ) -> Iterator[TableBatch]:
        """All rows after the header, as string columns; DataError for a cell that cannot be used."""
        rows = _texts(self.file, self.sheet)
        next(rows, None)
        while batch := list(islice(rows, BATCH_ROWS)):
            for row in batch:
                self._check_unnamed(row)
            cells = [
                [row.texts[at] if at < len(row.texts) else None for row in batch]
                for at in self.fields
            ]
            texts = [pa.array(column, pa.string()) for column in cells]
            table = pa.table(texts, names=list(self.columns))
            yield check_cells(conform_table(table, schema), {})

    def _check_unnamed(self, row: "_Row") -> None:
        for at, text in enumerate(row.texts):
            if text is not None and at not in self.fields:
                raise DataError(
                    f"{self.file.path}: sheet {self.sheet!r}: cell {_cell(at, row.number)} has a value, but its column "
                    "has no name in the header",
                    hint="Name the column in the first row. A merged cell names only its first column.",
                )


@dataclass(frozen=True, slots=True)
class _Row:
    """The texts of a row, with its number in the sheet, from 1."""

    number: int
    texts: Sequence[str | None]


def open_excel(file: InputFile, options: ExcelOptions) -> ExcelFile:
    """Choose the sheet and read its header.

    Raises:
        DataError: not an Excel workbook, no such sheet, no header, a repeated column, or the extra `excel` is missing.
    """
    _check_archive(file)
    with _workbook(file, values=True) as workbook:
        sheets = {sheet.title: sheet.sheet_state for sheet in workbook.worksheets}
    sheet = options.sheet or next(
        (title for title, state in sheets.items() if state == "visible"), next(iter(sheets), "")
    )
    if sheet not in sheets:
        raise DataError(
            f"input.excel.sheet: {file.path} has no sheet {sheet!r}",
            hint=f"Use one of: {', '.join(sheets) or 'none, it has only charts'}.",
        )
    _check_formulas(file, sheet)
    header = next(_texts(file, sheet), None)
    if header is None:
        raise DataError(
            f"{file.path}: sheet {sheet!r} is empty",
            hint="Name another sheet in input.excel.sheet, or check that the file is complete.",
        )
    named = [(at, text) for at, text in enumerate(header.texts) if text is not None]
    names = [name for _, name in named]
    for at, name in named:
        if names.count(name) > 1:
            raise DataError(
                f"{file.path}: sheet {sheet!r}: cell {_cell(at, header.number)}: the header has column {name!r} twice",
                hint="Give each column its own name.",
            )
    return ExcelFile(file, sheet, tuple(names), tuple(at for at, _ in named))


def _check_formulas(file: InputFile, sheet: str) -> None:
    """Raise DataError if no formula has a value: a program other than Excel wrote them and computed none."""
    with _damage(file):
        has_formulas = _has_formulas(file)
    if not has_formulas:
        return
    first = None
    for name, value in _formulas(file, sheet):
        if value is not None:
            return
        first = first or name
    if first is not None:
        raise DataError(
            f"{file.path}: sheet {sheet!r}: cell {first} contains a formula, and no formula has a value",
            hint="Open the workbook in Excel or LibreOffice and save it, which computes the values.",
        )


def _formulas(file: InputFile, sheet: str) -> Iterator[tuple[str, object]]:
    """The name and the stored value of each cell with a formula."""
    with (
        _workbook(file, values=True) as values,
        _workbook(file, values=False) as sources,
    ):
        rows = zip(_cells(values, sheet), _cells(sources, sheet), strict=False)
        cells = (
            (_cell(at, number), value, source)
            for number, row in enumerate(islice(rows, ROW_LIMIT), start=1)
            for at, (value, source) in enumerate(zip(*row, strict=False))
        )
        for name, value, source in cells:
            if value != source and str(source).startswith("="):
                yield name, value


def _has_formulas(file: InputFile) -> bool:
    with zipfile.ZipFile(file.path) as archive:
        names = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        return any(_contains_formula(archive, name) for name in names)


def _contains_formula(archive: zipfile.ZipFile, name: str) -> bool:
    end = b""
    with archive.open(name) as sheet:
        while block := sheet.read(1 << 20):
            if _FORMULA.search(end + block):
                return True
            end = block[-3:]
    return False


def _check_archive(file: InputFile) -> None:
    try:
        with file.path.open("rb") as raw:
            start = raw.read(8)
        if start == _OLE:
            raise DataError(
                f"{file.path}: is an Excel 97 workbook (.xls) or has a password; expected .xlsx",
                hint="Save it as .xlsx without a password.",
            )
        with zipfile.ZipFile(file.path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{file.path}: is not a complete .xlsx workbook ({file.size:,} bytes)", hint=_AGAIN
        ) from error
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from error
    if size > UNPACK_LIMIT:
        raise DataError(
            f"{file.path}: unpacks to {size >> 20:,} MiB; the limit is {UNPACK_LIMIT >> 20:,} MiB",
            hint="Save the sheet as CSV UTF-8.",
        )


@contextmanager
def _workbook(file: InputFile, *, values: bool) -> Iterator[Any]:
    """The workbook with the values of its cells, or with its formulas; DataError if it cannot be read."""
    try:
        from openpyxl import load_workbook  # noqa: PLC0415  # of an extra
    except ImportError as error:
        raise DataError(
            f"{file.path}: Excel workbooks need the extra `excel`",
            hint="Install the extra: pip install 'batchgen-llm[excel]'.",
        ) from error
    with _damage(file):
        workbook = load_workbook(file.path, read_only=True, data_only=values)
        try:
            yield workbook
        finally:
            workbook.close()


@contextmanager
def _damage(file: InputFile) -> Iterator[None]:
    """Translate the errors that openpyxl and zipfile raise for a damaged workbook, which are of many types."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{file.path}: the workbook is damaged ({type(error).__name__})", hint=_AGAIN
        ) from error


def _texts(file: InputFile, sheet: str) -> Iterator[_Row]:
    """The rows of a sheet that are not empty."""
    with _workbook(file, values=True) as workbook:
        for number, cells in enumerate(_cells(workbook, sheet), start=1):
            if number > ROW_LIMIT:
                raise DataError(
                    f"{file.path}: sheet {sheet!r} has more than {ROW_LIMIT:,} rows", hint=_AGAIN
                )
            texts = [_text(value) for value in cells]
            if any(text is not None for text in texts):
                yield _Row(number, texts)


def _cells(workbook: Any, sheet: str) -> Iterator[tuple[object, ...]]:  # noqa: ANN401  # openpyxl has no types
    worksheet = workbook[sheet]
    # The size that is written in a sheet is often wrong.
    worksheet.reset_dimensions()
    rows: Iterator[tuple[object, ...]] = worksheet.iter_rows(values_only=True)
    return rows


def _text(value: object) -> str | None:
    """A cell as text, as Excel saves it in CSV."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return _number(value)
    return str(value) if isinstance(value, str | int) else _moment(value)


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < _PLAIN:
        return str(int(value))
    # Excel shows 15 digits; the others are noise of binary fractions.
    return format(value, ".15g")


def _moment(value: object) -> str:
    if isinstance(value, dt.datetime):
        is_date = value.time() == dt.time()
        return value.date().isoformat() if is_date else value.isoformat(" ")
    if isinstance(value, dt.timedelta):
        minutes, seconds = divmod(round(value.total_seconds()), 60)
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return str(value)


def _cell(at: int, row: int) -> str:
    """The name of a cell, such as C7."""
    letters = ""
    at += 1
    while at:
        at, letter = divmod(at - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"{letters}{row}"
