"""Parquet files as batches in plain types.

Sizes in a footer may be wrong, so the number of rows in a batch depends on the length of the cells. Page checksums are
verified, and a row group is never in memory as a whole.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.arrow.types import (
    Position,
    TableBatch,
    UnusableTypeError,
    conform_table,
    plain_type,
    unified_type,
)
from batchgen.arrow.values import python_values
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import check_cells, cut_texts
from batchgen.input.readers.parquet_checks import (
    damaged_footer,
    most_cell_bytes,
    read_footer,
    too_large,
)
from batchgen.input.readers.parquet_footer import BYTE_ARRAY, Footer, RowGroup
from batchgen.input.readers.text.streams import CELL_LIMIT

BATCH_ROWS = 1024
BATCH_BYTES = 1 << 25
"""Planned upper limit of the memory of a batch."""

_CUT_BYTES = 4 * (CELL_LIMIT + 1)
"""More bytes than a text of CELL_LIMIT characters can have."""


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """A Parquet file whose footer has been read. `schema` has plain types, or the null type for columns of nulls."""

    file: InputFile
    schema: pa.Schema
    footer: Footer

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.schema.names)

    def batches(
        self,
        schema: pa.Schema,
        originals_of: Collection[str] = (),
        start: Position | None = None,
    ) -> Iterator[TableBatch]:
        """The rows from a row group on, as the columns of a schema from `unify_schemas`.

        Raises:
            DataError: a damaged page, or a number that does not fit the common type.
        """
        group, done = start or (0, 0)
        own = pa.schema(
            [f for f in self.schema if f.name in originals_of and f != schema.field(f.name)]
        )
        for position, table in self._tables(group, done):
            try:
                plain = conform_table(table, schema)
            except pa.ArrowInvalid as error:
                raise self._type_error(table, schema, done) from error
            originals = check_cells(conform_table(table, own), {}).table
            values = {name: python_values(originals.column(name)) for name in own.names}
            yield replace(check_cells(plain, {}), originals=values, position=position)
            done += table.num_rows

    def _tables(self, first: int, done: int) -> Iterator[tuple[Position | None, pa.Table]]:
        """The tables from a row group on, before which are `done` rows; with its position, the first of each group."""
        with _page_errors(self.file, lambda: done), _opened(self.file) as parquet:
            for number in range(first, len(self.footer.groups)):
                position: Position | None = (number, done)
                for table in _bounded_tables(
                    self.file, parquet, number, self.footer.groups[number]
                ):
                    yield position, table
                    position = None
                    done += table.num_rows
        if done != self.footer.rows:
            raise DataError(
                f"{self.file.path}: contains {done:,} rows, but {self.footer.rows:,} by its footer",
                hint="Download or write the file again.",
            )

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


@contextmanager
def _page_errors(file: InputFile, done: Callable[[], int]) -> Iterator[None]:
    """Translate pyarrow's errors; `done` is the number of rows that were read."""
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{file.path}: cannot be read after row {done():,}: a page is damaged",
            hint="Download or write the file again.",
        ) from error


def open_parquet(file: InputFile) -> ParquetFile:
    """Read the footer of a file.

    Raises:
        DataError: not a complete Parquet file, a repeated column, or a column type that is not supported.
    """
    footer = read_footer(file)
    try:
        with _opened(file) as parquet:
            schema = parquet.schema_arrow
            paths = _leaf_paths(parquet)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise damaged_footer(file, "its schema is damaged") from error
    for number, group in enumerate(footer.groups):
        if len(group.columns) != len(paths):
            raise damaged_footer(
                file,
                f"row group {number} has {len(group.columns)} columns, its schema {len(paths)}",
            )
    for name, count in Counter(schema.names).items():
        if count > 1:
            raise DataError(
                f"{file.path}: has two columns named {name!r}", hint="Rename one of them."
            )
    plain = pa.schema([_plain_field(file, field) for field in schema])
    with _page_errors(file, lambda: 0):
        _check_cell_bytes(file, footer, paths)
    return ParquetFile(file, plain, footer)


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


def _bounded_tables(
    file: InputFile, parquet: pq.ParquetFile, number: int, group: RowGroup
) -> Iterator[pa.Table]:
    """Yield the rows of a row group, in tables of about BATCH_BYTES.

    A page may store a long text once in a dictionary and repeat it a million times in a few bytes: 6 KB of file become
    gigabytes. So the dictionaries are read first, and too long texts are cut in them.
    """
    encoded = _dictionary_columns(group, _leaf_paths(parquet))
    longest = _longest_entry(file, number, encoded) if encoded else 0
    row_bytes = 1 + group.unpacked_bytes // max(1, group.rows)
    if longest > _CUT_BYTES:
        yield from _cut_tables(file, number, encoded, max(1, BATCH_BYTES // row_bytes))
        return
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // (row_bytes + longest)))
    for batch in parquet.iter_batches(rows, row_groups=[number], use_threads=False):
        yield pa.Table.from_batches([batch])


def _leaf_paths(parquet: pq.ParquetFile) -> list[str]:
    """The path of each column chunk of a row group, such as `messages.list.element.role`."""
    schema = parquet.schema
    return [schema.column(number).path for number in range(len(schema))]


def _dictionary_columns(group: RowGroup, paths: Sequence[str]) -> list[str]:
    """The text columns of a row group that have a dictionary."""
    return [
        path
        for path, column in zip(paths, group.columns, strict=True)
        if column.has_dictionary and column.physical_type == BYTE_ARRAY
    ]


def _check_cell_bytes(file: InputFile, footer: Footer, paths: Sequence[str]) -> None:
    """Raise DataError if repeated dictionary entries make more text than `most_cell_bytes`."""
    limit = most_cell_bytes(file)
    at_most = sum(
        column.unpacked_bytes * column.values
        for group in footer.groups
        for column in group.columns
        if column.has_dictionary
    )
    if at_most <= limit:
        return
    total = 0
    for number, group in enumerate(footer.groups):
        for size in _text_bytes(file, number, _dictionary_columns(group, paths)):
            total += size
            if total > limit:
                raise too_large(file, limit)


def _text_bytes(file: InputFile, number: int, encoded: Sequence[str]) -> Iterator[int]:
    """The bytes of the texts in the columns of a row group, batch by batch, by the length of dictionary entries."""
    if not encoded:
        return
    with _opened(file, encoded) as parquet:
        for batch in parquet.iter_batches(
            1 << 16, row_groups=[number], columns=list(encoded), use_threads=False
        ):
            yield sum(map(_repeated_bytes, batch.columns))


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
    return sum(pc.max(_entry_bytes(coded)).as_py() or 0 for coded in _coded_arrays(array))


def _repeated_bytes(array: pa.Array) -> int:
    """The bytes of all texts of an array, each at most those that are kept of a text that is too long."""
    return sum(
        pc.sum(pc.take(pc.min_element_wise(_entry_bytes(coded), _CUT_BYTES), coded.indices)).as_py() or 0
        for coded in _coded_arrays(array)
    )  # fmt: skip


def _entry_bytes(coded: pa.DictionaryArray) -> pa.Array:
    return pc.binary_length(coded.dictionary)


def _coded_arrays(array: pa.Array) -> Iterator[pa.DictionaryArray]:
    """The dictionary arrays that an array consists of."""
    if pa.types.is_dictionary(array.type):
        yield array
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _coded_arrays(child)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _coded_arrays(array.values)


def _cut(array: pa.Array) -> pa.Array:
    """Cut the texts in a dictionary to CELL_LIMIT + 1 characters, so that `check_cells` still rejects them."""
    if not pa.types.is_dictionary(array.type):
        return array
    entries = cut_texts(array.dictionary.cast(pa.string()), CELL_LIMIT + 1)
    return pa.DictionaryArray.from_arrays(array.indices, entries)
