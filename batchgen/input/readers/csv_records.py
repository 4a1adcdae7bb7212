"""Whole records of a CSV file, as text, and in words what is wrong with a record that cannot be.

Where a record ends is decided by one regular expression for the grammar of RFC 4180, over a block of text at once:

    record = field (delimiter field)* line-break        line-break = LF | CRLF | CR
    field  = " (not-quote | "")* "  |  not-quote-delimiter-or-break not-delimiter-or-break*  |  nothing

so that a quote inside a field that does not begin with one is text (`he said "hi"`). Records that do not follow
it are looked at once more, slowly, by the standard library's parser, to say which line is wrong and why.
Knows nothing of Arrow, nor of what the columns mean.
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
    """How the text of one CSV file is read."""

    encoding: str
    delimiter: str
    quote: str

    def __str__(self) -> str:
        return f'{self.encoding}, "{self.shown_delimiter}"'

    @property
    def shown_delimiter(self) -> str:
        """The delimiter, for messages."""
        return "tab" if self.delimiter == "\t" else self.delimiter


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records of a file as they stand there, and the number of the first line, from 1."""

    path: Path
    dialect: Dialect
    text: str
    first_line: int


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """The names of the columns, and the records that follow in the same block."""

    names: tuple[str, ...]
    rest: Records


def read_records(file: InputFile, dialect: Dialect) -> Iterator[Records]:
    """The records of a file, about a block of it at a time.

    Raises:
        DataError: bytes that are not text, quotes that do not match, a field without end.
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
    """The first record that is not an empty line.

    Raises:
        DataError: there is none, or it names a column twice.
    """
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
        f"{path}: has no header, nothing but empty lines", hint="Is it still being written?"
    )


def explain_bad_record(records: Records, columns: Sequence[str] | None = None) -> DataError:
    """What is wrong with the first record that cannot be.

    Args:
        records: among them such a record; the last may be cut off.
        columns: names of the fields that every record should have; None if the header is not known yet.
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
        f"{records.path}:{records.first_line}: no CSV record can be read from here on",
        hint="Is this a CSV file? See input.csv.delimiter and input.csv.quote.",
    )


def find_delimiter(start: str, quote: str, candidates: Sequence[str]) -> str:
    """The delimiter that splits the first records into the same number of fields, and into most of them.

    Args:
        start: the first lines of a file.
        quote: the character around fields.
        candidates: in order of preference; the first is taken where there seems to be a single column.
    """
    lines = split_lines(start)
    found = [_evenness(lines, Dialect("", mark, quote)) for mark in candidates]
    return candidates[found.index(max(found))]


def split_lines(text: str) -> list[str]:
    """Lines with their ends: LF, CRLF or CR, and nothing else, unlike `str.splitlines`."""
    return list(io.StringIO(text, newline=""))


@dataclass(frozen=True, slots=True)
class _Grammar:
    """Patterns of whole records; of the start of one (`last` is its last field); and of one field."""

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
    """Raise DataError if what is left of a block cannot become a record, or one without end."""
    start = grammar.start.match(rest.text.removesuffix("\r"))
    if start is None or len(start["last"]) > CELL_LIMIT:
        raise explain_bad_record(rest)
    if len(rest.text) > LINE_LIMIT:
        raise DataError(
            f"{rest.path}:{rest.first_line}: a record is longer than {LINE_LIMIT:,} characters",
            hint="Is this a CSV file?",
        )


def _check_names(names: Sequence[str], place: str) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if seen.setdefault(name, number) != number:
            raise DataError(
                f"{place}: the header names column {name!r} twice (fields {seen[name]} and {number})",
                hint="Give each column its own name.",
            )


def _wrong_width(records: Records, start: int, found: int, columns: Sequence[str]) -> DataError:
    dialect = records.dialect
    line = records.first_line + start
    names = ", ".join(columns[:5]) + (", …" if len(columns) > 5 else "")
    return DataError(
        f"{records.path}:{line}: found {found} field{'s' * (found > 1)}, expected {len(columns)} ({names})",
        hint=f'Fields are separated by "{dialect.shown_delimiter}" (input.csv.delimiter); text that contains it, '
        f"or a line break, needs {dialect.quote} around it.",
    )


def _malformed(records: Records, start: int) -> DataError:
    """What is wrong with the record that begins `start` lines on, which the parser refused."""
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
                f"(looked for {quote} in the next {min(length, CELL_LIMIT):,} characters)",
                hint=f"Close it; inside quoted text, write {quote} twice.",
            )
        if field["quoted"] is not None and field["rest"]:
            return DataError(
                f"{records.path}:{first + _line_breaks(text[: field.end('quoted')])}: text follows the "
                f"closing quote of field {number}, which was opened at {opened}",
                hint=f"Inside quoted text, write {quote} twice. Or is an earlier quote not closed?",
            )
        if length > CELL_LIMIT or field["end"] != records.dialect.delimiter:
            break
    return DataError(
        f"{records.path}:{first}: a field is longer than {CELL_LIMIT:,} characters",
        hint="Is this a CSV file? Or are its line breaks lost?",
    )


class _Parser(Protocol):
    """The standard library's CSV reader."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


def _parser(lines: Sequence[str], dialect: Dialect) -> _Parser:
    return csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True)


def _rows(parser: _Parser) -> Iterator[list[str]]:
    """The records that a parser finds, each of whose fields may have CELL_LIMIT characters."""
    # The standard library keeps this limit for the whole process.
    before = csv.field_size_limit(CELL_LIMIT)
    try:
        yield from parser
    finally:
        csv.field_size_limit(before)


def _line_breaks(text: str) -> int:
    breaks = text.count("\n")
    # Looking for a CR is much faster than counting them.
    return breaks + text.count("\r") - text.count("\r\n") if "\r" in text else breaks


def _evenness(lines: Sequence[str], dialect: Dialect) -> tuple[bool, int]:
    """Whether the first records have one number of fields, above 1; and the number of fields of the header."""
    widths = list(islice(_widths(lines, dialect), 50))
    if not widths:
        return False, "".join(lines[:1]).count(dialect.delimiter) + 1
    return widths[0] > 1 and len(set(widths)) == 1, widths[0]


def _widths(lines: Sequence[str], dialect: Dialect) -> Iterator[int]:
    """Numbers of fields of the records, up to one that cannot be: cut off, or by another delimiter."""
    with suppress(csv.Error):
        for row in _rows(_parser(lines, dialect)):
            if row:
                yield len(row)
