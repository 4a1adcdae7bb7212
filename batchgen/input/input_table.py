"""All input files as one table, with the columns from names of hive folders."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from batchgen.arrow.types import Position, TableBatch
from batchgen.errors import DataError
from batchgen.input.files import InputFile, urls_in_errors
from batchgen.input.readers.csv import open_csv
from batchgen.input.readers.excel import open_excel
from batchgen.input.readers.jsonl import JsonlFile, infer_schema, open_jsonl
from batchgen.input.readers.parquet import open_parquet, unify_schemas
from batchgen.job.spec import Input


class TableReader(Protocol):
    """An open input file. `columns` are those found at its start."""

    @property
    def file(self) -> InputFile: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    def batches(
        self,
        schema: pa.Schema,
        originals_of: Collection[str] = (),
        start: Position | None = None,
    ) -> Iterator[TableBatch]:
        """The rows from a position of an earlier batch on, as the columns of a schema, with the original cells of some columns."""


@dataclass(frozen=True, slots=True)
class InputTable:
    """Open files of one format.

    Attributes:
        known: the schema of the files; None if it is known only after reading everything.
        dialects: encodings and delimiters, for display.
    """

    readers: Sequence[TableReader]
    known: pa.Schema | None
    dialects: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[InputFile, ...]:
        return tuple(reader.file for reader in self.readers)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns at the start of the files, and of their folders."""
        names = [name for reader in self.readers for name in reader.columns]
        return tuple(dict.fromkeys([*names, *self._partitions()]))

    @property
    def known_schema(self) -> pa.Schema | None:
        """The schema with all columns; None if the files must be read for it."""
        return None if self.known is None else self._with_partitions(self.known)

    def schema(self) -> pa.Schema:
        """The schema with all columns; DataError if a file cannot be read, or the values of a column fit no type."""
        with urls_in_errors(self.files):
            if self.known is not None:
                return self._with_partitions(self.known)
            jsonl = [reader for reader in self.readers if isinstance(reader, JsonlFile)]
            return self._with_partitions(infer_schema(jsonl))

    def describe(self) -> str:
        """Format, number of files, compression, encoding and delimiter, for display."""
        count = [f"{len(self.readers):,} files"] if len(self.readers) > 1 else []
        compressions = sorted({file.compression for file in self.files} - {"none"})
        return ", ".join([self.files[0].format, *count, *compressions, *self.dialects])

    def batches(
        self,
        schema: pa.Schema,
        file: int,
        originals_of: Collection[str] = (),
        start: Position | None = None,
    ) -> Iterator[TableBatch]:
        """The rows of file number `file` from a position on, with the original cells of some columns.

        Raises:
            DataError: the file cannot be read or has changed.
        """
        with urls_in_errors(self.files):
            yield from self._batches(schema, self.readers[file], originals_of, start)

    def _batches(
        self,
        schema: pa.Schema,
        reader: TableReader,
        originals_of: Collection[str],
        start: Position | None,
    ) -> Iterator[TableBatch]:
        partitions = dict(reader.file.partitions)
        hive = [name for name in self._partitions() if name in schema.names]
        own = pa.schema([column for column in schema if column.name not in hive])
        reader.file.check_unchanged()
        for batch in reader.batches(own, originals_of, start):
            table = batch.table
            for name in hive:
                texts = pa.repeat(pa.scalar(partitions[name], pa.string()), table.num_rows)
                table = table.append_column(pa.field(name, pa.string()), texts)
            yield replace(batch, table=table)
        reader.file.check_unchanged()

    def _partitions(self) -> list[str]:
        """Columns that are only in names of folders; columns that are also in the files are read from the files."""
        own = {name for reader in self.readers for name in reader.columns}
        return [name for name, _ in self.files[0].partitions if name not in own]

    def _with_partitions(self, own: pa.Schema) -> pa.Schema:
        if both := set(self._partitions()) & set(own.names):
            raise DataError(
                f"{self.files[0].label}: column {min(both)!r} is in later lines and in the names of folders",
                hint="Write it in every line, or only in the names of folders.",
            )
        return pa.schema([*own, *(pa.field(name, pa.string()) for name in self._partitions())])


def open_table(files: Sequence[InputFile], spec: Input) -> InputTable:
    """Read the start of each file; DataError if one cannot be read or has other columns than the others."""
    with urls_in_errors(files):
        return _open_table(files, spec)


def _open_table(files: Sequence[InputFile], spec: Input) -> InputTable:
    if files[0].format in ("jsonl", "json"):
        return InputTable([open_jsonl(file) for file in files], None)
    if files[0].format == "parquet":
        parquet = [open_parquet(file) for file in files]
        _check_same_columns(parquet)
        return InputTable(parquet, unify_schemas(parquet))
    if files[0].format == "excel":
        sheets = [open_excel(file, spec.excel) for file in files]
        _check_same_columns(sheets)
        texts = pa.schema([(name, pa.string()) for name in sheets[0].columns])
        return InputTable(sheets, texts, tuple(dict.fromkeys(f"sheet {s.sheet!r}" for s in sheets)))
    csv = [open_csv(file, spec.csv) for file in files]
    _check_same_columns(csv)
    texts = pa.schema([(name, pa.string()) for name in csv[0].columns])
    return InputTable(csv, texts, tuple(dict.fromkeys(str(file.dialect) for file in csv)))


def _check_same_columns(readers: Sequence[TableReader]) -> None:
    first = readers[0]
    expected = dict.fromkeys(first.columns)
    for reader in readers:
        own = dict.fromkeys(reader.columns)
        for name in [*expected, *own]:
            if name in expected and name in own:
                continue
            lacks, has = (reader, first) if name in expected else (first, reader)
            raise DataError(
                f"{lacks.file.label}: has no column {name!r}, but {has.file.label} has; "
                "expected the same columns in all files",
                hint="Write the same columns to all files, or list only files with the same columns in input.path.",
            )
