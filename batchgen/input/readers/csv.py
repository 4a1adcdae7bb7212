"""CSV files as batches in which every column is text.

pyarrow's parser splits the fields, an order of magnitude faster than the standard library's. On its own it swallows
the rest of a file after a quote that is never closed, so it is given whole, checked records only (csv_records.py).
Every record has as many fields as the header, or an error names its line; an empty field without quotes is null,
`""` is an empty text; empty lines are passed over. A cell of more than CELL_LIMIT characters is an error here,
since it nearly always is a quote that was never closed.
Knows nothing of what the columns mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from batchgen.arrow.types import TableBatch, conform_table
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers import streams
from batchgen.input.readers.csv_records import (
    Dialect,
    Records,
    explain_bad_record,
    find_delimiter,
    read_header,
    read_records,
)
from batchgen.input.readers.encoding import find_encoding
from batchgen.job.spec import CsvOptions

DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """One CSV file whose header has been read."""

    file: InputFile
    dialect: Dialect
    null_values: tuple[str, ...]
    columns: tuple[str, ...]

    def batches(self, schema: pa.Schema) -> Iterator[TableBatch]:
        """All records after the header, with the columns of a schema in its order, each a string.

        Raises:
            DataError: a record that cannot be, with its line.
        """
        blocks = read_records(self.file, self.dialect)
        header = read_header(blocks, self.file.path)
        for records in chain([header.rest], blocks):
            if records.text.strip("\r\n"):
                yield TableBatch(conform_table(self._table(records), schema))

    def _table(self, records: Records) -> pa.Table:
        try:
            text = records.text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.file.path}: read as {self.dialect.encoding}, its text is not Unicode",
                hint="Name another encoding in input.csv.encoding.",
            ) from error
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(text),
                read_options=pa_csv.ReadOptions(
                    use_threads=False, block_size=len(text) + 1, column_names=list(self.columns)
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.dialect.delimiter,
                    quote_char=self.dialect.quote,
                    newlines_in_values=True,
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.columns, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid as error:
            raise explain_bad_record(records, self.columns) from error
        if any(_is_too_long(column) for column in table.columns):
            raise explain_bad_record(records, self.columns)
        return self._with_nulls(table) if self.null_values else table

    def _with_nulls(self, table: pa.Table) -> pa.Table:
        texts = pa.array(self.null_values, pa.string())
        null = pa.scalar(None, pa.string())
        columns = [
            pc.if_else(pc.is_in(column, value_set=texts), null, column) for column in table.columns
        ]
        return pa.table(columns, schema=table.schema)


def open_csv(file: InputFile, options: CsvOptions) -> CsvFile:
    """Find encoding and delimiter from the head of a file, and read its header.

    Raises:
        DataError: nothing in it, an unknown encoding, a header that names a column twice.
    """
    _check_marks(options)
    head = streams.read_head(file)
    encoding = find_encoding(options.encoding, head, file.path)
    delimiter = options.delimiter
    if delimiter == "auto":
        candidates = [mark for mark in DELIMITERS if mark != options.quote]
        start = head.decode(encoding, "ignore").removeprefix("\ufeff")
        if len(head) == streams.HEAD_BYTES:
            # The last line is cut off: its fields must not count.
            start = start[: max(start.rfind("\n"), start.rfind("\r")) + 1] or start
        delimiter = find_delimiter(start, options.quote, candidates)
    dialect = Dialect(encoding, delimiter, options.quote)
    header = read_header(read_records(file, dialect), file.path)
    return CsvFile(file, dialect, options.null_values, header.names)


def _check_marks(options: CsvOptions) -> None:
    for key, mark in (("delimiter", options.delimiter), ("quote", options.quote)):
        if mark != "auto" and (mark in {"\r", "\n"} or not mark.isascii()):
            raise DataError(
                f"input.csv.{key}: {mark!r} cannot be one; expected one ASCII character, no line break",
                hint='Such as "," ";" or "|"; a tab is "\\t" in double quotes.',
            )
    if options.delimiter == options.quote:
        raise DataError(
            f"input.csv: delimiter and quote are both {options.quote!r}",
            hint="They have to differ.",
        )


def _is_too_long(column: pa.ChunkedArray) -> bool:
    # Bytes are counted without reading them, and are never fewer than characters.
    most = pc.max(pc.binary_length(column)).as_py()
    if most is None or most <= streams.CELL_LIMIT:
        return False
    return bool(pc.max(pc.utf8_length(column)).as_py() > streams.CELL_LIMIT)
