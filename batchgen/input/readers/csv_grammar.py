"""The grammar of CSV, and the delimiter of a file.

A regular expression for the grammar of RFC 4180 finds the ends of records, in a block of text at once:

    record = field (delimiter field)* line-break        line-break = LF | CRLF | CR
    field  = " (not-quote | "")* "  |  not-quote-delimiter-or-break not-delimiter-or-break*  |  nothing

so that a quote inside a field that does not begin with a quote is text (`he said "hi"`).
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

from batchgen.arrow.types import Position
from batchgen.input.readers.text.streams import CELL_LIMIT

_DELIMITER_LINE = re.compile(r'"?sep=([^\r\n"])"?[\r\n]', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Encoding, delimiter and quote of a CSV file.

    `has_delimiter_line`: whether a line such as `sep=;`, which Excel reads, comes before the header.
    """

    encoding: str
    delimiter: str
    quote: str
    has_delimiter_line: bool = False

    def __str__(self) -> str:
        return f'{self.encoding}, "{self.shown_delimiter}"'

    @property
    def shown_delimiter(self) -> str:
        return "tab" if self.delimiter == "\t" else self.delimiter


@dataclass(frozen=True, slots=True)
class Records:
    """Text of complete records, and the number of its first line, from 1.

    `position`: its first byte in the file and the lines before it; None if it cannot be read from there.
    """

    path: Path
    dialect: Dialect
    text: str
    first_line: int
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class CsvGrammar:
    """Patterns of complete records, of the start of a record (`last` is its last field), and of a field."""

    records: re.Pattern[str]
    start: re.Pattern[str]
    field: re.Pattern[str]


@functools.lru_cache(maxsize=16)
def csv_grammar(delimiter: str, quote: str) -> CsvGrammar:
    """The patterns for a delimiter and a quote."""
    d, q = re.escape(delimiter), re.escape(quote)
    opened = rf"{q}(?:[^{q}]++|{q}{q})*+"
    plain = rf"[^{q}{d}\r\n][^{d}\r\n]*+"
    field = rf"(?:{opened}{q}|{plain}|)"
    line_break = r"(?:\r\n|\r|\n)"
    return CsvGrammar(
        records=re.compile(rf"(?:{field}(?:{d}{field})*+{line_break})*+"),
        start=re.compile(rf"(?:{field}{d})*+(?P<last>{opened}{q}?|{plain}|)\Z"),
        field=re.compile(
            rf"(?P<quoted>{opened}(?P<closed>{q})?)?(?P<rest>[^{d}\r\n]*+)(?P<end>{d}|{line_break}|\Z)"
        ),
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


def delimiter_line(start: str) -> str | None:
    """The delimiter in a first line such as `sep=;`; None if there is no such line."""
    found = _DELIMITER_LINE.match(start)
    return found[1] if found else None


def split_lines(text: str) -> list[str]:
    """Split at LF, CRLF and CR only, unlike `str.splitlines`, and keep the line ends."""
    return list(io.StringIO(text, newline=""))


class CsvParser(Protocol):
    """The standard library's CSV reader."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


def csv_parser(lines: Sequence[str], dialect: Dialect) -> CsvParser:
    """The standard library's strict parser of some lines."""
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)


def csv_rows(parser: CsvParser) -> Iterator[list[str]]:
    """The fields of each record; csv.Error for a malformed one or a field of more than CELL_LIMIT characters."""
    # The standard library has one limit for the whole process.
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        yield from parser
    finally:
        csv.field_size_limit(before)


def line_breaks(text: str) -> int:
    """Number of LF, CRLF and CR in a text."""
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
        yield from (len(row) for row in csv_rows(csv_parser(lines, dialect)) if row)
