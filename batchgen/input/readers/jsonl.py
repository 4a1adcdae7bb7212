"""JSONL files (one JSON object per line) and JSON files (json_document.py), as batches of typed columns.

A missing key is null. Types are inferred from all lines of all files before any row is used: integers and fractions
in one column become fractions, a column without values is text, and numbers and text in one column are text.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchgen.arrow.types import Position, TableBatch
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import check_cells
from batchgen.input.readers.json_document import read_document
from batchgen.input.readers.json_objects import JsonLines
from batchgen.input.readers.jsonl_lines import read_lines
from batchgen.input.readers.jsonl_types import ColumnTypes, is_exact, make_column


@dataclass(frozen=True, slots=True)
class JsonlFile:
    """A JSONL or JSON file. `columns` are the keys in its first block, in order of appearance."""

    file: InputFile
    columns: tuple[str, ...]

    def lines(self, start: Position | None = None) -> Iterator[JsonLines]:
        """The objects from a position on; DataError for text that is not a JSON object."""
        if self.file.format == "json":  # whose objects have no position
            return read_document(self.file)
        return read_lines(self.file, start)

    def batches(
        self,
        schema: pa.Schema,
        originals_of: Collection[str] = (),
        start: Position | None = None,
    ) -> Iterator[TableBatch]:
        """The rows from a position on, as the columns of `infer_schema`; DataError for a line that is not a JSON object."""
        for lines in self.lines(start):
            table = pa.table([self._column(lines, field) for field in schema], schema=schema)
            named = [field for field in schema if field.name in originals_of]
            values = {field.name: lines.column(field.name) for field in named}
            inexact = {
                f.name: values[f.name] for f in named if not is_exact(values[f.name], f.type)
            }
            checked = check_cells(table, lines.failures)
            yield replace(checked, originals=inexact, position=lines.position)

    def _column(self, lines: JsonLines, field: pa.Field) -> pa.Array:
        try:
            return make_column(lines.column(field.name), field.type)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{self.file.path}: column {field.name!r} has values of another kind than when its lines were read first",
                hint="Run again. Do not change the input during a run.",
            ) from error


def open_jsonl(file: InputFile) -> JsonlFile:
    """Read the keys in the first block of a file; DataError if a line of it is not a JSON object."""
    lines = next(JsonlFile(file, ()).lines(), None)
    keys = [key for object_ in lines.objects for key in object_] if lines else []
    return JsonlFile(file, tuple(dict.fromkeys(keys)))


def infer_schema(files: Sequence[JsonlFile]) -> pa.Schema:
    """Infer the columns and their types in one pass over all files.

    Raises:
        DataError: a line that is not an object, or too many columns.
    """
    types = ColumnTypes()
    for file in files:
        for lines in file.lines():
            types.widen(lines)
    return types.schema()
