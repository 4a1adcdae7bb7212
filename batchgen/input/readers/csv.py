"""CSV files as batches in which every column is text.

pyarrow's parser splits the fields, ten times as fast as the standard library's. It would read the rest of a file as
one field after a quote that is never closed, so it gets only complete records (csv_records.py). A record with another
number of fields than the header is an error. An empty field without quotes is null, `""` is an empty text; empty lines,
and records of empty fields alone, are skipped. A cell of more than CELL_LIMIT characters is an error, since its cause is nearly always an unclosed quote.
"""

import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from batchgen.arrow.types import Position, TableBatch, conform_table
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.cell_limits import has_long_text
from batchgen.input.readers.csv_errors import (
    check_no_second_mark,
    check_unnamed,
    explain_bad_record,
)
from batchgen.input.readers.csv_grammar import Dialect, Records, delimiter_line, find_delimiter
from batchgen.input.readers.csv_records import read_header, read_records
from batchgen.input.readers.text import streams
from batchgen.input.readers.text.encoding import find_encoding
from batchgen.job.spec import CsvOptions

DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file whose header has been read."""

    file: InputFile
    dialect: Dialect
    null_values: tuple[str, ...]
    columns: tuple[str, ...]
    unnamed: int = 0

    def batches(
        self,
        schema: pa.Schema,
        originals_of: Collection[str] = (),  # noqa: ARG002  # texts are always as they were
        start: Position | None = None,
    ) -> Iterator[TableBatch]:
        """The records after the header, or from a byte on, as string columns of `schema`; DataError for a bad record."""
        blocks = read_records(self.file, self.dialect, start)
        if start is None:
            blocks = chain([read_header(blocks, self.file.path).rest], blocks)
        for records in blocks:
            if "\ufeff" in records.text:
                check_no_second_mark(records)
            if records.text.strip("\r\n"):
                table = conform_table(self._table(records), schema)
                yield TableBatch(table, position=records.position)

    def _table(self, records: Records) -> pa.Table:
        table = _without_empty_rows(self._fields(records))
        if self.unnamed:
            if any(column.null_count < len(column) for column in table.columns[-self.unnamed :]):
                check_unnamed(records, len(self.columns))
            table = table.select(list(self.columns))
        return self._with_nulls(table) if self.null_values else table

    def _fields(self, records: Records) -> pa.Table:
        # No name of the header contains a line feed at its start and a number only.
        names = [*self.columns, *(f"\n{number}" for number in range(self.unnamed))]
        try:
            text = records.text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.file.path}: is not valid Unicode text when read as {self.dialect.encoding}",
                hint="Set another encoding in input.csv.encoding.",
            ) from error
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(text),
                read_options=pa_csv.ReadOptions(
                    use_threads=False, block_size=len(text) + 1, column_names=names
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.dialect.delimiter,
                    quote_char=self.dialect.quote,
                    newlines_in_values=True,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise explain_bad_record(records, names) from error
        if any(map(has_long_text, table.columns)):
            raise explain_bad_record(records, names)
        return table

    def _with_nulls(self, table: pa.Table) -> pa.Table:
        texts = pa.array(self.null_values, pa.string())
        null = pa.scalar(None, pa.string())
        columns = [
            pc.if_else(pc.is_in(column, value_set=texts), null, column) for column in table.columns
        ]
        return pa.table(columns, schema=table.schema)


def _without_empty_rows(table: pa.Table) -> pa.Table:
    """The rows in which a field is not empty: Excel writes empty rows as delimiters alone."""
    if table.num_columns < 2 or not all(column.null_count for column in table.columns):
        return table
    kept = functools.reduce(pc.or_, map(pc.is_valid, table.columns))
    return table.filter(kept)


def open_csv(file: InputFile, options: CsvOptions) -> CsvFile:
    """Detect encoding and delimiter, and read the header.

    Raises:
        DataError: an empty file, an unknown encoding, or a header with a repeated column.
    """
    _check_marks(options)
    head = streams.read_head(file)
    encoding = find_encoding(options.encoding, head, file.path)
    delimiter = options.delimiter
    start = head.decode(encoding, "ignore").lstrip("\ufeff")
    stated = delimiter_line(start)
    if delimiter == "auto" and stated is not None:
        delimiter = stated
    elif delimiter == "auto":
        candidates = [mark for mark in DELIMITERS if mark != options.quote]
        if len(head) == streams.HEAD_BYTES:
            # Leave out the last line, which is incomplete.
            start = start[: max(start.rfind("\n"), start.rfind("\r")) + 1] or start
        delimiter = find_delimiter(start, options.quote, candidates)
    dialect = Dialect(encoding, delimiter, options.quote, has_delimiter_line=stated is not None)
    header = read_header(read_records(file, dialect), file.path)
    return CsvFile(file, dialect, options.null_values, header.names, header.unnamed)


def _check_marks(options: CsvOptions) -> None:
    for key, mark in (("delimiter", options.delimiter), ("quote", options.quote)):
        if mark != "auto" and (mark in {"\r", "\n"} or not mark.isascii()):
            raise DataError(
                f"input.csv.{key}: invalid {key} {mark!r}: expected one ASCII character other than a line break",
                hint='Use a character such as "," ";" or "|". Write a tab as "\\t" in double quotes.',
            )
    if options.delimiter == options.quote:
        raise DataError(
            f"input.csv: delimiter and quote are both {options.quote!r}",
            hint="Set two different characters.",
        )
