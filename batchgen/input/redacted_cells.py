"""Redaction of personal data in the text cells of a table, including text in lists and structs."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import DataError
from batchgen.input.blocks import Cells, object_array
from batchgen.input.readers.cell_limits import holds_text
from batchgen.privacy.redact import Redactor


@dataclass(frozen=True, slots=True)
class RedactedTable:
    """A redacted table and the number of replaced items by kind."""

    table: pa.Table
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CellRedaction:
    """The redaction of the cells of an input.

    Attributes:
        columns: the columns to redact; None for all with text.
        keeps_ids_distinct: whether different values stay different, so that ids may be redacted.
    """

    redactor: Redactor
    columns: Collection[str] | None
    keeps_ids_distinct: bool

    def apply(self, table: pa.Table) -> RedactedTable:
        counts: Counter[str] = Counter()
        for number, field in enumerate(table.schema):
            if self.covers(field):
                chunks = [self._array(chunk, counts) for chunk in table.column(number).chunks]
                table = table.set_column(number, field, pa.chunked_array(chunks, field.type))
        return RedactedTable(table, counts)

    def apply_to_cells(self, cells: Cells, field: pa.Field) -> Cells:
        """Redact cells of a column as Python objects. Keys of objects are redacted where the column is one of texts."""
        if not self.covers(field):
            return cells
        counts: Counter[str] = Counter()  # those of the table count
        keys = pa.types.is_string(field.type)
        return object_array([self._value(cell, counts, keys=keys) for cell in cells])

    def covers(self, field: pa.Field) -> bool:
        wanted = self.columns is None or field.name in self.columns
        return wanted and holds_text(field.type)

    def apply_to_ids(self, ids: pa.Table) -> pa.Table:
        """Like `apply`, for a table of one column; DataError if ids may become equal."""
        redacted = self.apply(ids)
        if redacted.counts and not self.keeps_ids_distinct:
            kinds = " and ".join(redacted.counts)
            raise DataError(
                f"the id column {ids.column_names[0]!r} seems to contain personal data ({kinds}): redacted ids may be equal",
                hint="Name another column in input.columns.id, set redact.replacement: hash, which keeps ids distinct, or "
                "list the columns to redact, without this one, in redact.columns.",
            )
        return redacted.table

    def _array(self, array: pa.Array, counts: Counter[str]) -> pa.Array:
        # Only text becomes Python objects: Python cannot represent all times and numbers of Arrow.
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

    def _value(self, value: object, counts: Counter[str], *, keys: bool) -> object:
        if isinstance(value, str):
            return self._text(value, counts)
        if isinstance(value, list):
            return [self._value(item, counts, keys=keys) for item in value]
        if isinstance(value, dict):
            return {
                self._text(key, counts) if keys else key: self._value(item, counts, keys=keys)
                for key, item in value.items()
            }
        return value

    def _text(self, text: str | None, counts: Counter[str]) -> str | None:
        if text is None:
            return None
        redacted = self.redactor.redact(text)
        counts.update(redacted.counts)
        return redacted.text
