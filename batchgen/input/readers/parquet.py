"""Parquet files as batches in plain types.

Sizes in a footer may be wrong, so the number of rows in a batch depends on the length of the cells. Page checksums are
verified, and a row group is never in memory as a whole.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.arrow.types import (
    TableBatch,
    UnusableTypeError,
    conform_table,
    plain_type,
    unified_type,
)
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import check_cells, cut_texts
from batchgen.input.readers.streams import CELL_LIMIT

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 25
"""Planned upper limit of the memory of a batch."""

_CUT_BYTES = 4 * (CELL_LIMIT + 1)
"""More bytes than a text of CELL_LIMIT characters can have."""
_MAGIC = b"PAR1"
_ENCRYPTED = b"PARE"
_AGAIN = "Wait if it is still being written. Otherwise download or write it again."


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A Parquet file whose footer has been read. `schema` has plain types, or the null type for columns of nulls."""

    file: InputFile
    schema: pa.Schema

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    def batches(self, schema: pa.Schema) -> Iterator[TableBatch]:
        """All rows, as the columns of a schema from `unify_schemas`.

        Raises:
            DataError: a damaged page, or a number that does not fit the common type.
        """
        done = 0
        for table in self._tables():
            try:
                plain = conform_table(table, schema)
            except pa.ArrowInvalid as error:
                raise self._type_error(table, schema, done) from error
            yield check_cells(plain, {})
            done += table.num_rows

    def _tables(self) -> Iterator[pa.Table]:
        done = 0
        try:
            with _opened(self.file) as parquet:
                for table in _bounded_tables(self.file, parquet):
                    yield table
                    done += table.num_rows
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{self.file.path}: cannot be read after row {done:,}: a page is damaged",
                hint="Download or write the file again.",
            ) from error

    def _type_error(self, table: pa.Table, schema: pa.Schema, done: int) -> DataError:
        for field in schema:
            try:
                conform_table(table, pa.schema([field]))
            except pa.ArrowInvalid:
                return DataError(
                    f"{self.file.path}: rows {done:,} to {done + table.num_rows - 1:,}: column {field.name!r} "
                    f"contains a value that does not fit {field.type}, the common type of all files",
                    hint="Write the column with one type in all files.",
                )
        return DataError(f"{self.file.path}: its values do not fit the types of its columns")


def open_parquet(file: InputFile) -> ParquetFile:
    """Read the footer of a file.

    Raises:
        DataError: not a complete Parquet file, a repeated column, or a column type that is not supported.
    """
    _check_ends(file)
    try:
        with _opened(file) as parquet:
            schema = parquet.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file.path}: its Parquet footer cannot be read", hint=_AGAIN) from error
    for name in schema.names:
        if schema.names.count(name) > 1:
            raise DataError(
                f"{file.path}: has two columns named {name!r}", hint="Rename one of them."
            )
    return ParquetFile(file, pa.schema([_plain_field(file, field) for field in schema]))


def unify_schemas(files: Sequence[ParquetFile]) -> pa.Schema:
    """The common schema of files with the same columns, in the order of the first file.

    Raises:
        DataError: a column has types without a common type.
    """
    first, *others = files
    types = {field.name: field.type for field in first.schema}
    for file in others:
        for field in file.schema:
            common = unified_type(types[field.name], field.type)
            if common is None:
                raise DataError(
                    f"{file.file.path}: column {field.name!r} is {field.type}, but {types[field.name]} "
                    f"in {first.file.path}",
                    hint="Write the column with one type in all files.",
                )
            types[field.name] = common
    return pa.schema([(name, plain_type(type_)) for name, type_ in types.items()])


def _opened(file: InputFile, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    return pq.ParquetFile(
        file.path,
        page_checksum_verification=True,
        # Read pages when needed, instead of a whole row group.
        pre_buffer=False,
        buffer_size=1 << 18,
        read_dictionary=list(dictionaries),
    )


def _check_ends(file: InputFile) -> None:
    try:
        with file.path.open("rb") as stream:
            start = stream.read(4)
            stream.seek(max(0, file.size - 4))
            end = stream.read(4)
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from error
    if not start:
        raise DataError(
            f"{file.path}: is empty (0 bytes), not a complete Parquet file", hint=_AGAIN
        )
    if _ENCRYPTED in {start, end}:
        raise DataError(f"{file.path}: is encrypted Parquet", hint="Write it without encryption.")
    if start != _MAGIC:
        raise DataError(
            f"{file.path}: is not a Parquet file: it begins with {start!r}, not {_MAGIC!r}",
            hint="Set input.format if it is another format.",
        )
    if end != _MAGIC or file.size < 12:
        raise DataError(
            f"{file.path}: is not a complete Parquet file ({file.size:,} bytes, the footer is missing)",
            hint=_AGAIN,
        )


def _plain_field(file: InputFile, field: pa.Field) -> pa.Field:
    if pa.types.is_null(field.type):
        return pa.field(field.name, field.type)
    try:
        return pa.field(field.name, plain_type(field.type))
    except UnusableTypeError as error:
        raise DataError(
            f"{file.path}: column {field.name!r} has a type that is not supported: {error}",
            hint="Write the column as text or JSON text.",
        ) from error


def _bounded_tables(file: InputFile, parquet: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield all rows, in tables of about BATCH_BYTES.

    A page may store a long text once in a dictionary and repeat it a million times in a few bytes: 6 KB of file become
    gigabytes. So the dictionaries are read first, and too long texts are cut in them.
    """
    for number in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(number)
        encoded = _dictionary_columns(group)
        longest = _longest_entry(file, number, encoded) if encoded else 0
        row_bytes = 1 + group.total_byte_size // max(1, group.num_rows)
        if longest > _CUT_BYTES:
            yield from _cut_tables(file, number, encoded, max(1, BATCH_BYTES // row_bytes))
            continue
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES // (row_bytes + longest)))
        for batch in parquet.iter_batches(rows, row_groups=[number], use_threads=False):
            yield pa.Table.from_batches([batch])


def _dictionary_columns(group: pq.RowGroupMetaData) -> list[str]:
    """The text columns of a row group that have a dictionary."""
    columns = [group.column(i) for i in range(group.num_columns)]
    return [
        c.path_in_schema
        for c in columns
        if c.has_dictionary_page and c.physical_type == "BYTE_ARRAY"
    ]


def _cut_tables(
    file: InputFile, number: int, encoded: Sequence[str], rows: int
) -> Iterator[pa.Table]:
    """The tables of a row group, with the texts in its dictionaries cut."""
    few = max(1, BATCH_BYTES // (_CUT_BYTES * len(encoded)))
    with _opened(file, encoded) as parquet:
        for batch in parquet.iter_batches(
            min(BATCH_ROWS, rows), row_groups=[number], use_threads=False
        ):
            table = pa.Table.from_arrays([_cut(c) for c in batch.columns], batch.schema.names)
            yield from (table.slice(start, few) for start in range(0, table.num_rows, few))


def _longest_entry(file: InputFile, number: int, columns: Sequence[str]) -> int:
    """Sum of the bytes of the longest text in the dictionary of each column."""
    with _opened(file, columns) as parquet:
        rows = parquet.iter_batches(
            1, row_groups=[number], columns=list(columns), use_threads=False
        )
        return sum(_longest(column) for row in itertools.islice(rows, 1) for column in row.columns)


def _longest(array: pa.Array) -> int:
    if pa.types.is_dictionary(array.type):
        return pc.max(pc.binary_length(array.dictionary)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(map(_longest, array.flatten()))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _longest(array.values)
    return 0


def _cut(array: pa.Array) -> pa.Array:
    """Cut the texts in a dictionary to CELL_LIMIT + 1 characters, so that `check_cells` still rejects them."""
    if not pa.types.is_dictionary(array.type):
        return array
    entries = cut_texts(array.dictionary.cast(pa.string()), CELL_LIMIT + 1)
    return pa.DictionaryArray.from_arrays(array.indices, entries)
