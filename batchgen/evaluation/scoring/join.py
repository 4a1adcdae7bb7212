"""`--join FILE --on COLUMN`: add columns of another file to the answers. The file is held in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batchgen.arrow.values import key_texts
from batchgen.errors import JobKeyError, UsageError
from batchgen.input.blocks import RowLocations
from batchgen.input.files import find_files
from batchgen.input.input_table import InputTable, open_table
from batchgen.job.spec import Input


@dataclass(frozen=True, slots=True)
class JoinSpec:
    """Another file, and the key column that both tables have."""

    path: Path
    on: str


def open_input_table(path: Path) -> InputTable:
    """Open a table in any input format."""
    spec = Input(path=str(path.absolute()))
    try:
        return open_table(find_files(spec), spec)
    except JobKeyError as error:
        raise UsageError(f"{path}: {error.problem.message}", hint=error.problem.hint) from error


def read_tables(table: InputTable, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield all rows, batch by batch."""
    for number in range(len(table.files)):
        yield from (batch.table for batch in table.batches(schema, number))


@dataclass(frozen=True, slots=True)
class Join:
    """The rows of a file, and the row number of each key as text."""

    on: str
    table: pa.Table
    rows: dict[str, int]

    def schema(self, schema: pa.Schema) -> pa.Schema:
        return pa.schema([*schema, *self.table.schema])

    def add_columns(self, table: pa.Table) -> pa.Table:
        """The table with the columns of the file; null if the file lacks the key."""
        keys = key_texts(table.column(self.on)).to_pylist()
        rows = pa.array([None if k is None else self.rows.get(k) for k in keys], pa.int64())
        joined = self.table.take(rows)
        for field, column in zip(joined.schema, joined.columns, strict=True):
            table = table.append_column(field, column)
        return table


def open_join(join_spec: JoinSpec, taken: pa.Schema) -> Join:
    """Read a file to join; its columns that are in `taken` are left out."""
    path, on = join_spec.path, join_spec.on
    source = open_input_table(path)
    schema = source.schema()
    for names, where in ((schema.names, path), (taken.names, "the answers")):
        if on not in names:
            raise UsageError(
                f"--on {on}: no such column in {where}", hint=f"Use one of: {', '.join(names)}."
            )
    table, locations = _read(source, schema)
    rows: dict[str, int] = {}
    for row, key in enumerate(key_texts(table.column(on)).to_pylist()):
        if key is not None and rows.setdefault(key, row) != row:
            raise UsageError(
                f"--on {on}: one value is in two rows: {locations.row_label(rows[key])} and {locations.row_label(row)}",
                hint="Choose a column with unique values. Rows are counted from 0.",
            )
    kept = [name for name in table.column_names if name not in taken.names]
    return Join(on, table.select(kept), rows)


def _read(source: InputTable, schema: pa.Schema) -> tuple[pa.Table, RowLocations]:
    tables, locations = [schema.empty_table()], RowLocations()
    for number, file in enumerate(source.files):
        locations.start_file(file.label)
        for batch in source.batches(schema, number):
            tables.append(batch.table)
            locations.rows += batch.table.num_rows
    return pa.concat_tables(tables), locations
