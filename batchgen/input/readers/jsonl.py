"""JSONL files: one JSON object per line, as batches of typed columns.

A key that a line lacks is null. Types are found over all lines of all files before any row is used: whole numbers
beside fractions become fractions, a column without any value is text, and numbers beside text are an error that names
both lines. Knows nothing of what the columns mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from batchgen.arrow.types import TableBatch
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import check_cells
from batchgen.input.readers.jsonl_lines import read_lines
from batchgen.input.readers.jsonl_types import (
    TypeConflictError,
    column_type,
    make_column,
    type_conflict,
    widen_types,
)


@dataclass(frozen=True, slots=True)
class JsonlFile:
    """One JSONL file. `columns` are the keys in its first block, in order of appearance."""

    file: InputFile
    columns: tuple[str, ...]

    def batches(self, schema: pa.Schema) -> Iterator[TableBatch]:
        """All rows, as the columns of a schema that `infer_schema` found.

        Raises:
            DataError: a line that is not a JSON object, with its number.
        """
        for lines in read_lines(self.file):
            try:
                columns = [make_column(f.name, lines.column(f.name), f.type) for f in schema]
            except TypeConflictError as error:
                raise type_conflict(error.key, read_lines(self.file)) from error
            yield check_cells(pa.table(columns, schema=schema), lines.failures)


def open_jsonl(file: InputFile) -> JsonlFile:
    """Read the keys in the first block of a file.

    Raises:
        DataError: one of its first lines is not a JSON object.
    """
    lines = next(read_lines(file), None)
    keys = [key for found in lines.objects for key in found] if lines else []
    return JsonlFile(file, tuple(dict.fromkeys(keys)))


def infer_schema(files: Sequence[JsonlFile]) -> pa.Schema:
    """The columns of all lines of all files, with types that hold every value: a pass over everything.

    Raises:
        DataError: a line that is not an object; values of different kinds in one column; too many columns.
    """
    types: dict[str, pa.DataType] = {}
    try:
        for file in files:
            for lines in read_lines(file.file):
                widen_types(types, lines)
    except TypeConflictError as error:
        everything = (lines for file in files for lines in read_lines(file.file))
        raise type_conflict(error.key, everything) from error
    return pa.schema([(key, column_type(type_)) for key, type_ in types.items()])
