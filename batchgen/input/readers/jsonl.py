"""JSONL files: one JSON object per line, as batches of typed columns.

A missing key is null. Types are inferred from all lines of all files before any row is used: integers and fractions
in one column become fractions, a column without values is text, and numbers and text in one column are an error.
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
    """A JSONL file. `columns` are the keys in its first block, in order of appearance."""

    file: InputFile
    columns: tuple[str, ...]

    def batches(self, schema: pa.Schema) -> Iterator[TableBatch]:
        """All rows, as the columns of a schema from `infer_schema`; DataError for a line that is not a JSON object."""
        for lines in read_lines(self.file):
            try:
                columns = [make_column(f.name, lines.column(f.name), f.type) for f in schema]
            except TypeConflictError as error:
                raise type_conflict(error.key, read_lines(self.file)) from error
            yield check_cells(pa.table(columns, schema=schema), lines.failures)


def open_jsonl(file: InputFile) -> JsonlFile:
    """Read the keys in the first block of a file; DataError if a line of it is not a JSON object."""
    lines = next(read_lines(file), None)
    keys = [key for object_ in lines.objects for key in object_] if lines else []
    return JsonlFile(file, tuple(dict.fromkeys(keys)))


def infer_schema(files: Sequence[JsonlFile]) -> pa.Schema:
    """Infer the columns and their types in one pass over all files.

    Raises:
        DataError: a line that is not an object, values of different kinds in one column, or too many columns.
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
