"""All input files as one table, whatever their format, with the columns that hive folders say.

Knows nothing of which rows are used, nor of what the columns mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from batchgen.arrow.types import TableBatch
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.csv import open_csv
from batchgen.input.readers.jsonl import JsonlFile, infer_schema, open_jsonl
from batchgen.input.readers.parquet import open_parquet, unify_schemas
from batchgen.job.spec import Input


class TableReader(Protocol):
    """One open file."""

    @property
    def file(self) -> InputFile:
        """Which one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that its beginning says."""

    def batches(self, schema: pa.Schema) -> Iterator[TableBatch]:
        """All its rows, as the columns of a schema."""


@dataclass(frozen=True, slots=True)
class InputTable:
    """Files of one format, open, and what is known of their columns.

    Attributes:
        known: names and types of the columns of the files; None where only reading everything can tell.
        dialects: how the text of the files is read, for people.
    """

    readers: Sequence[TableReader]
    known: pa.Schema | None
    dialects: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The files, in order."""
        return tuple(reader.file for reader in self.readers)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the beginnings of the files and their folders say."""
        names = [name for reader in self.readers for name in reader.columns]
        return tuple(dict.fromkeys([*names, *self._partitions()]))

    @property
    def known_schema(self) -> pa.Schema | None:
        """All columns with their types, where nothing has to be read for it."""
        return None if self.known is None else self._with_partitions(self.known)

    def schema(self) -> pa.Schema:
        """All columns with their types.

        Raises:
            DataError: a file cannot be read, or its values fit no type.
        """
        if self.known is not None:
            return self._with_partitions(self.known)
        jsonl = [reader for reader in self.readers if isinstance(reader, JsonlFile)]
        return self._with_partitions(infer_schema(jsonl))

    def describe(self) -> str:
        """Format, number of files, encoding and delimiter, as far as they say something."""
        count = [f"{len(self.readers):,} files"] if len(self.readers) > 1 else []
        packed = sorted({file.compression for file in self.files} - {"none"})
        return ", ".join([self.files[0].format, *count, *packed, *self.dialects])

    def batches(self, schema: pa.Schema, file: int) -> Iterator[TableBatch]:
        """The rows of one file, by its position.

        Raises:
            DataError: it cannot be read, or has changed since it was found.
        """
        reader = self.readers[file]
        said = dict(reader.file.partitions)
        hive = [name for name in self._partitions() if name in schema.names]
        own = pa.schema([column for column in schema if column.name not in hive])
        reader.file.check_unchanged()
        for batch in reader.batches(own):
            table = batch.table
            for name in hive:
                texts = pa.repeat(pa.scalar(said[name], pa.string()), table.num_rows)
                table = table.append_column(pa.field(name, pa.string()), texts)
            yield TableBatch(table, batch.failures)
        reader.file.check_unchanged()

    def _partitions(self) -> list[str]:
        """Columns that only the folders say: one that the files hold as well is read from them."""
        own = {name for reader in self.readers for name in reader.columns}
        return [name for name, _ in self.files[0].partitions if name not in own]

    def _with_partitions(self, own: pa.Schema) -> pa.Schema:
        if both := set(self._partitions()) & set(own.names):
            raise DataError(
                f"{self.files[0].path}: column {min(both)!r} is both in later lines and in the names of folders",
                hint="Give it in every line, or in the folders alone.",
            )
        return pa.schema([*own, *(pa.field(name, pa.string()) for name in self._partitions())])


def open_table(files: Sequence[InputFile], spec: Input) -> InputTable:
    """Read the heads of files.

    Raises:
        DataError: one of them cannot be read, or does not go with the others.
    """
    if files[0].format == "jsonl":
        return InputTable([open_jsonl(file) for file in files], None)
    if files[0].format == "parquet":
        parquet = [open_parquet(file) for file in files]
        _check_same_columns(parquet)
        return InputTable(parquet, unify_schemas(parquet))
    csv = [open_csv(file, spec.csv) for file in files]
    _check_same_columns(csv)
    texts = pa.schema([(name, pa.string()) for name in csv[0].columns])
    return InputTable(csv, texts, tuple(dict.fromkeys(str(file.dialect) for file in csv)))


def _check_same_columns(readers: Sequence[TableReader]) -> None:
    first = readers[0]
    for reader in readers:
        for name in [*first.columns, *reader.columns]:
            if name in first.columns and name in reader.columns:
                continue
            lacks, has = (reader, first) if name in first.columns else (first, reader)
            raise DataError(
                f"{lacks.file.path}: has no column {name!r}, but {has.file.path} has; "
                "expected the same columns in all files",
                hint="Write them alike, or name those that go together in input.path.",
            )
