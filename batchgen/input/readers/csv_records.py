"""Complete records of a CSV file as text, and explanations of malformed records.

A regular expression for the grammar of RFC 4180 finds the ends of records, in a block of text at once:

    record = field (delimiter field)* line-break        line-break = LF | CRLF | CR
    field  = " (not-quote | "")* "  |  not-quote-delimiter-or-break not-delimiter-or-break*  |  nothing

so that a quote inside a field that does not begin with a quote is text (`he said "hi"`). Malformed records are parsed
again by the standard library, to find the line and the cause.
"""

import csv
import functools
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.streams import CELL_LIMIT, LINE_LIMIT, text_blocks


@dataclass(frozen=True, slots=True)
class Dialect:
    """Encoding, delimiter and quote of a CSV file."""

    encoding: str
    delimiter: str
    quote: str

    def __str__(self) -> str:
        return f'{self.encoding}, "{self.shown_delimiter}"'

    @property
    def shown_delimiter(self) -> str:
        return "tab" if self.delimiter == "\t" else self.delimiter


@dataclass(frozen=True, slots=True)
class Records:
    """Text of complete records, and the number of its first line, from 1."""

    path: Path
    dialect: Dialect
    text: str
    first_line: int


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """The names of the columns, and the other records of the same block."""

    names: tuple[str, ...]
    rest: Records


def read_records(file: InputFile, dialect: Dialect) -> Iterator[Records]:
    """Yield the records of a file, about a block at a time.

    Raises:
        DataError: undecodable bytes, unmatched quotes, or a field that is too long.
    """
    grammar = _grammar(dialect.delimiter, dialect.quote)
    rest, line = "", 1
    for block in text_blocks(file, dialect.encoding):
        text = rest + block
        end = _end_of_records(text, grammar, dialect.quote)
        records, rest = Records(file.path, dialect, text[:end], line), text[end:]
        if end:
            yield records
            line += _line_breaks(records.text)
        _check_rest(Records(file.path, dialect, rest, line), grammar)
    if rest:
        records = Records(file.path, dialect, rest + "\n", line)
        if not grammar.records.fullmatch(records.text):
            raise explain_bad_record(records)
        yield records


def read_header(records: Iterator[Records], path: Path) -> CsvHeader:
    """Read the first record that is not an empty line; DataError if there is none, or a column is repeated."""
    for block in records:
        lines = split_lines(block.text)
        parser = _parser(lines, block.dialect)
        names = next((names for names in _rows(parser) if names), None)
        if names is not None:
            line = block.first_line + parser.line_num
            _check_names(names, f"{path}:{line - 1}")
            rest = Records(path, block.dialect, "".join(lines[parser.line_num :]), line)
            return CsvHeader(tuple(names), rest)
    raise DataError(
        f"{path}: has no header: all lines are empty",
        hint="Wait if the file is still being written.",
    )


def explain_bad_record(records: Records, columns: Sequence[str] | None = None) -> DataError:
    """The error for the first malformed record.

    Args:
        records: contain a malformed record; the last may be incomplete.
        columns: names of the expected fields; None if the header is not known yet.
    """
    parser = _parser(split_lines(records.text), records.dialect)
    start = 0
    wanted = {0, len(columns)} if columns is not None else None
    try:
        for row in _rows(parser):
            if wanted is not None and len(row) not in wanted:
                return _wrong_width(records, start, len(row), columns or ())
            start = parser.line_num
    except csv.Error:
        return _malformed(records, start)
    return DataError(
        f"{records.path}:{records.first_line}: no CSV record can be read from this line on",
        hint="Check input.csv.delimiter and input.csv.quote.",
    )


def find_delimiter(start: str, quote: str, candidates: Sequence[str]) -> str:
    """The delimiter that splits the first records into the same, and the largest, number of fields.

    Args:
        start: the first lines of a file.
        quote: the quote character.
        candidates: in order of preference; the first is the result if there seems to be one column.
    """
    lines = split_lines(start)
    scores = [_evenness(lines, Dialect("", mark, quote)) for mark in candidates]
    return candidates[scores.index(max(scores))]


def split_lines(text: str) -> list[str]:
    """Split at LF, CRLF and CR only, unlike `str.splitlines`, and keep the line ends."""
    return list(io.StringIO(text, newline=""))


@dataclass(frozen=True, slots=True)
class _Grammar:
    """Patterns of complete records, of the start of a record (`last` is its last field), and of a field."""

    records: re.Pattern[str]
    start: re.Pattern[str]
    field: re.Pattern[str]


@functools.lru_cache(maxsize=16)
def _grammar(delimiter: str, quote: str) -> _Grammar:
    d, q = re.escape(delimiter), re.escape(quote)
    opened = rf"{q}(?:[^{q}]++|{q}{q})*+"
    plain = rf"[^{q}{d}\r\n][^{d}\r\n]*+"
    field = rf"(?:{opened}{q}|{plain}|)"
    line_break = r"(?:\r\n|\r|\n)"
    return _Grammar(
        records=re.compile(rf"(?:{field}(?:{d}{field})*+{line_break})*+"),
        start=re.compile(rf"(?:{field}{d})*+(?P<last>{opened}{q}?|{plain}|)\Z"),
        field=re.compile(
            rf"(?P<quoted>{opened}(?P<closed>{q})?)?(?P<rest>[^{d}\r\n]*+)(?P<end>{d}|{line_break}|\Z)"
        ),
    )


def _end_of_records(text: str, grammar: _Grammar, quote: str) -> int:
    # A CR at the very end may be half of a CRLF.
    stop = len(text) - text.endswith("\r")
    if quote not in text:
        return max(text.rfind("\n", 0, stop), text.rfind("\r", 0, stop - 1 if stop else 0)) + 1
    found = grammar.records.match(text, 0, stop)
    return found.end() if found else 0


def _check_rest(rest: Records, grammar: _Grammar) -> None:
    """Raise DataError if the rest of a block cannot be the start of a record, or is too long."""
    start = grammar.start.match(rest.text.removesuffix("\r"))
    if start is None or len(start["last"]) > CELL_LIMIT:
        raise explain_bad_record(rest)
    if len(rest.text) > LINE_LIMIT:
        raise DataError(
            f"{rest.path}:{rest.first_line}: a record is longer than {LINE_LIMIT:,} characters",
            hint="Check that this is a CSV file, and input.csv.quote.",
        )


def _check_names(names: Sequence[str], location: str) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if seen.setdefault(name, number) != number:
            raise DataError(
                f"{location}: the header has column {name!r} twice (fields {seen[name]} and {number})",
                hint="Give each column its own name.",
            )


def _wrong_width(records: Records, start: int, found: int, columns: Sequence[str]) -> DataError:
    dialect = records.dialect
    line = records.first_line + start
    names = ", ".join(columns[:5]) + (", …" if len(columns) > 5 else "")
    return DataError(
        f"{records.path}:{line}: found {found} field{'s' * (found > 1)}, expected {len(columns)} ({names})",
        hint=f"Put {dialect.quote} around text that contains a line break or the delimiter "
        f'"{dialect.shown_delimiter}". Check input.csv.delimiter.',
    )


def _malformed(records: Records, start: int) -> DataError:
    """The error for the record that begins after `start` lines and that the parser cannot read."""
    quote = records.dialect.quote
    grammar = _grammar(records.dialect.delimiter, quote)
    text = "".join(split_lines(records.text)[start:])
    first = records.first_line + start
    for number, field in enumerate(grammar.field.finditer(text), start=1):
        opened = f"{records.path}:{first + _line_breaks(text[: field.start()])}"
        length = field.end("rest") - field.start()
        if field["quoted"] is not None and (field["closed"] is None or length > CELL_LIMIT):
            return DataError(
                f"{opened}: the quote that opens field {number} is never closed "
                f"(no closing {quote} in the next {min(length, CELL_LIMIT):,} characters)",
                hint=f"Close the quote. Inside quoted text, write {quote} twice.",
            )
        if field["quoted"] is not None and field["rest"]:
            return DataError(
                f"{records.path}:{first + _line_breaks(text[: field.end('quoted')])}: text follows the "
                f"closing quote of field {number}, which was opened at {opened}",
                hint=f"Inside quoted text, write {quote} twice. Check that earlier quotes are closed.",
            )
        if length > CELL_LIMIT or field["end"] != records.dialect.delimiter:
            break
    return DataError(
        f"{records.path}:{first}: a field is longer than {CELL_LIMIT:,} characters",
        hint="Check that this is a CSV file with line breaks.",
    )


class _Parser(Protocol):
    """The standard library's CSV reader."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


def _parser(lines: Sequence[str], dialect: Dialect) -> _Parser:
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)


def _rows(parser: _Parser) -> Iterator[list[str]]:
    # The standard library has one limit for the whole process.
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        yield from parser
    finally:
        csv.field_size_limit(before)


def _line_breaks(text: str) -> int:
    breaks = text.count("\n")
    # Searching for a CR is much faster than counting.
    return breaks + text.count("\r") - text.count("\r\n") if "\r" in text else breaks


def _evenness(lines: Sequence[str], dialect: Dialect) -> tuple[bool, int]:
    """Whether the first records have the same number of fields, above 1; and the number of fields of the header."""
    widths = list(islice(_widths(lines, dialect), 50))
    if not widths:
        return False, "".join(lines[:1]).count(dialect.delimiter) + 1
    return widths[0] > 1 and len(set(widths)) == 1, widths[0]


def _widths(lines: Sequence[str], dialect: Dialect) -> Iterator[int]:
    with suppress(csv.Error):  # an incomplete record, or one with another delimiter
        yield from (len(row) for row in _rows(_parser(lines, dialect)) if row)
