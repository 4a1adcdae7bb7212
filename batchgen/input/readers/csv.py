"""CSV files as batches in which every column is text.

pyarrow's parser splits the fields, ten times as fast as the standard library's. It would read the rest of a file as
one field after a quote that is never closed, so it gets only complete records (csv_records.py). A record with another
number of fields than the header is an error. An empty field without quotes is null, `""` is an empty text; empty lines
are skipped. A cell of more than CELL_LIMIT characters is an error, since its cause is nearly always an unclosed quote.
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
from batchgen.input.readers.cell_limits import has_long_text
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
    """A CSV file whose header has been read."""

    file: InputFile
    dialect: Dialect
    null_values: tuple[str, ...]
    columns: tuple[str, ...]

    def batches(self, schema: pa.Schema) -> Iterator[TableBatch]:
        """All records after the header, as string columns in the order of `schema`; DataError for a bad record."""
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
                f"{self.file.path}: is not valid Unicode text when read as {self.dialect.encoding}",
                hint="Set another encoding in input.csv.encoding.",
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
        if any(map(has_long_text, table.columns)):
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
    """Detect encoding and delimiter, and read the header.

    Raises:
        DataError: an empty file, an unknown encoding, or a header with a repeated column.
    """
    _check_marks(options)
    head = streams.read_head(file)
    encoding = find_encoding(options.encoding, head, file.path)
    delimiter = options.delimiter
    if delimiter == "auto":
        candidates = [mark for mark in DELIMITERS if mark != options.quote]
        start = head.decode(encoding, "ignore").removeprefix("\ufeff")
        if len(head) == streams.HEAD_BYTES:
            # Leave out the last line, which is incomplete.
            start = start[: max(start.rfind("\n"), start.rfind("\r")) + 1] or start
        delimiter = find_delimiter(start, options.quote, candidates)
    dialect = Dialect(encoding, delimiter, options.quote)
    header = read_header(read_records(file, dialect), file.path)
    return CsvFile(file, dialect, options.null_values, header.names)


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
