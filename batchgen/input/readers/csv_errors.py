"""The causes of malformed CSV records, with their lines. Records are parsed again by the standard library."""

import csv
from collections.abc import Sequence
from contextlib import suppress

from batchgen.errors import DataError
from batchgen.input.readers.csv_grammar import (
    Records,
    csv_grammar,
    csv_parser,
    csv_rows,
    line_breaks,
    split_lines,
)
from batchgen.input.readers.text.streams import CELL_LIMIT


def check_no_second_mark(records: Records) -> None:
    """Raise DataError if a record begins with a byte order mark: files were joined, each with its header."""
    lines = split_lines(records.text)
    parser = csv_parser(lines, records.dialect)
    start = 0
    with suppress(csv.Error):  # The cause is reported when the records are parsed.
        for _ in csv_rows(parser):
            if lines[start].startswith("\ufeff"):
                raise DataError(
                    f"{records.path}:{records.first_line + start}: a second byte order mark: files were joined here, "
                    "perhaps with their headers",
                    hint="List the separate files in input.path, or remove the mark and the repeated header.",
                )
            start = parser.line_num


def check_unnamed(records: Records, columns: int) -> None:
    """Raise DataError if a field that the header has no name for contains text."""
    parser = csv_parser(split_lines(records.text), records.dialect)
    start = 0
    for row in csv_rows(parser):
        for number, text in enumerate(row[columns:], start=columns + 1):
            if text:
                raise DataError(
                    f"{records.path}:{records.first_line + start}: field {number} contains text, but its column has no "
                    "name in the header",
                    hint="Name the column in the header, or check the number of delimiters in this line.",
                )
        start = parser.line_num


def explain_bad_record(records: Records, columns: Sequence[str] | None = None) -> DataError:
    """The error for the first malformed record.

    Args:
        records: contain a malformed record; the last may be incomplete.
        columns: names of the expected fields; None if the header is not known yet.
    """
    parser = csv_parser(split_lines(records.text), records.dialect)
    start = 0
    wanted = {0, len(columns)} if columns is not None else None
    try:
        for row in csv_rows(parser):
            if wanted is not None and len(row) not in wanted:
                return _wrong_width(records, slice(start, parser.line_num), row, columns or ())
            start = parser.line_num
    except csv.Error:
        return _malformed(records, start)
    return DataError(
        f"{records.path}:{records.first_line}: no CSV record can be read from this line on",
        hint="Check input.csv.delimiter and input.csv.quote.",
    )


def _has_backslash(text: str, quote: str) -> bool:
    return f"\\{quote}" in text


def _backslash_hint(quote: str) -> str:
    return (
        f"Write {quote}{quote} instead of \\{quote}: export again with doubled quotes "
        f"(MySQL: FIELDS ESCAPED BY '{quote}')."
    )


def _wrong_width(
    records: Records, lines: slice, row: Sequence[str], columns: Sequence[str]
) -> DataError:
    dialect, found = records.dialect, len(row)
    line = records.first_line + lines.start
    if _has_backslash("".join(split_lines(records.text)[lines]), dialect.quote):
        return DataError(
            f"{records.path}:{line}: found {found} field{'s' * (found > 1)}, expected {len(columns)}; "
            f"the record contains a backslash before a quote (\\{dialect.quote}), which does not escape it in CSV",
            hint=_backslash_hint(dialect.quote),
        )
    if found > len(columns) and f"\\{dialect.delimiter}" in "".join(
        split_lines(records.text)[lines]
    ):
        return DataError(
            f"{records.path}:{line}: found {found} fields, expected {len(columns)}; the record contains a backslash "
            f"before the delimiter (\\{dialect.shown_delimiter}), which does not escape it in CSV",
            hint=f"Put {dialect.quote} around text that contains the delimiter: export again with quoted fields "
            f"(MySQL: FIELDS ENCLOSED BY '{dialect.quote}' ESCAPED BY '{dialect.quote}').",
        )
    names = ", ".join(columns[:5]) + (", …" if len(columns) > 5 else "")
    hint = (
        f'Put {dialect.quote} around text that contains a line break or the delimiter "{dialect.shown_delimiter}". '
        "Check input.csv.delimiter."
    )
    if found > len(columns) and not any(row[len(columns) :]):
        hint = (
            f"The further fields are empty. End the header with {found - len(columns)} more "
            f'"{dialect.shown_delimiter}", so that it has as many fields: empty columns without a name are not read.'
        )
    return DataError(
        f"{records.path}:{line}: found {found} field{'s' * (found > 1)}, expected {len(columns)} ({names})",
        hint=hint,
    )


def _malformed(records: Records, start: int) -> DataError:
    """The error for the record that begins after `start` lines and that the parser cannot read."""
    quote = records.dialect.quote
    grammar = csv_grammar(records.dialect.delimiter, quote)
    text = "".join(split_lines(records.text)[start:])
    first = records.first_line + start
    for number, field in enumerate(grammar.field.finditer(text), start=1):
        opened = f"{records.path}:{first + line_breaks(text[: field.start()])}"
        length = field.end("rest") - field.start()
        if field["quoted"] is not None and (field["closed"] is None or length > CELL_LIMIT):
            return DataError(
                f"{opened}: the quote that opens field {number} is never closed "
                f"(no closing {quote} in the next {min(length, CELL_LIMIT):,} characters)",
                hint=f"Close the quote. Inside quoted text, write {quote} twice.",
            )
        if field["quoted"] is not None and field["rest"] and _has_backslash(field["quoted"], quote):
            return DataError(
                f"{opened}: field {number} contains a backslash before a quote (\\{quote}), which does not escape it in CSV",
                hint=_backslash_hint(quote),
            )
        if field["quoted"] is not None and field["rest"]:
            return DataError(
                f"{records.path}:{first + line_breaks(text[: field.end('quoted')])}: text follows the "
                f"closing quote of field {number}, which was opened at {opened}",
                hint=f"Inside quoted text, write {quote} twice. Check that earlier quotes are closed.",
            )
        if length > CELL_LIMIT or field["end"] != records.dialect.delimiter:
            break
    return DataError(
        f"{records.path}:{first}: a field is longer than {CELL_LIMIT:,} characters",
        hint="Check that this is a CSV file with line breaks.",
    )
