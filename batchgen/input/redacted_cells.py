"""Personal data taken out of the cells of a table, before anything else sees them.

Text is looked at wherever it is, in lists and structs too; numbers and dates are not. Knows nothing of files and jobs.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import DataError
from batchgen.input.readers.cell_limits import holds_text
from batchgen.privacy.redact import Redactor


@dataclass(frozen=True, slots=True)
class RedactedTable:
    """A table without personal data, and how many findings of each kind it had."""

    table: pa.Table
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CellRedaction:
    """What is taken out of the cells of an input.

    Attributes:
        columns: those that are looked at; None for all that hold text.
        keeps_apart: whether different values stay different, so that even ids may be redacted.
    """

    redactor: Redactor
    columns: Collection[str] | None
    keeps_apart: bool

    def apply(self, table: pa.Table) -> RedactedTable:
        """The table with the same columns and types, and other texts."""
        counts: Counter[str] = Counter()
        for number, field in enumerate(table.schema):
            if self.covers(field):
                column = table.column(number)
                redacted = self._column(column, counts)
                table = table.set_column(number, field, redacted)
        return RedactedTable(table, counts)

    def covers(self, field: pa.Field) -> bool:
        """Whether a column is looked at."""
        wanted = self.columns is None or field.name in self.columns
        return wanted and holds_text(field.type)

    def of_ids(self, ids: pa.Table) -> pa.Table:
        """The column of ids, like `apply`.

        Raises:
            DataError: some hold personal data, and what would take its place could be the same for several.
        """
        redacted = self.apply(ids)
        if redacted.counts and not self.keeps_apart:
            found = " and ".join(redacted.counts)
            raise DataError(
                f"column {ids.column_names[0]!r} holds what looks like personal data ({found}), and it is the id: once "
                "redacted, ids could be the same",
                hint="Name another column in input.columns.id; or set redact.replacement: hash, which keeps ids apart; or list "
                "in redact.columns what is to be redacted, without this one.",
            )
        return redacted.table

    def _column(self, column: pa.ChunkedArray, counts: Counter[str]) -> pa.ChunkedArray:
        chunks = [self._array(chunk, counts) for chunk in column.chunks]
        return pa.chunked_array(chunks, column.type)

    def _array(self, array: pa.Array, counts: Counter[str]) -> pa.Array:
        """The same values but for text; times and numbers are not touched, whether Python has such ones or not."""
        type_ = array.type
        if pa.types.is_string(type_):
            return pa.array([self._text(text, counts) for text in array.to_pylist()], type_)
        if not holds_text(type_):
            return array
        if pa.types.is_list(type_):
            lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
            offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
            inner = self._array(array.flatten(), counts)
            return pa.ListArray.from_arrays(offsets, inner, type=type_, mask=array.is_null())
        children = [self._array(child, counts) for child in array.flatten()]
        fields = [type_.field(number) for number in range(type_.num_fields)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=array.is_null())

    def _text(self, text: str | None, counts: Counter[str]) -> str | None:
        if text is None:
            return None
        redacted = self.redactor.redact(text)
        counts.update(redacted.counts)
        return redacted.text
