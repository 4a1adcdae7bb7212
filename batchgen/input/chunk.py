"""A chunk of the selected rows of an input."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from batchgen.input.blocks import Cells
from batchgen.records import Failure, Row


@dataclass(frozen=True, slots=True)
class Chunk:
    """Selected rows [first, first + len(ids)).

    Attributes:
        number: from 0.
        table: all columns, with the schema of the survey.
        failures: rows that cannot be used, by `Row.index`.
        columns: the cells of the columns that rows have, as Python objects.
        redacted: number of redacted items in the table, by kind.
    """

    number: int
    first: int
    table: pa.Table
    ids: tuple[str, ...]
    failures: Mapping[int, Failure]
    columns: Mapping[str, Cells] = field(default_factory=dict)
    redacted: Mapping[str, int] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        """The rows, with the columns that were asked for."""
        values = self.columns.values()
        fields = zip(*values, strict=True) if values else ((),) * len(self.ids)
        return [
            Row(index, id_, dict(zip(self.columns, cells, strict=True)))
            for index, (id_, cells) in enumerate(zip(self.ids, fields, strict=True), self.first)
        ]
