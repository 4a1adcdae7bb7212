"""Personal data taken out of the cells of a table, before anything else sees them.

Text is looked at wherever it is, in lists and structs too; numbers and dates are not. Knows nothing of files and jobs.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from batchgen.data.cells import holds_text
from batchgen.errors import DataError
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
                hint="Name another column in input.columns.id; or set redact.with: hash, which keeps ids apart; or list "
                "in redact.columns what is to be redacted, without this one.",
            )
        return redacted.table

    def _column(self, column: pa.ChunkedArray, counts: Counter[str]) -> pa.Array:
        values = [self._value(value, counts) for value in column.to_pylist()]
        return pa.array(values, column.type)

    def _value(self, value: object, counts: Counter[str]) -> object:
        if isinstance(value, str):
            redacted = self.redactor.redact(value)
            counts.update(redacted.counts)
            return redacted.text
        if isinstance(value, list):
            return [self._value(item, counts) for item in value]
        if isinstance(value, dict):
            return {key: self._value(item, counts) for key, item in value.items()}
        return value
