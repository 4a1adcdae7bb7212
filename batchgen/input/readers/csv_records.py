"""Complete records of a CSV file as text, a block at a time, and its header."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.arrow.types import Position
from batchgen.errors import DataError
from batchgen.input.files import InputFile
from batchgen.input.readers.csv_errors import explain_bad_record
from batchgen.input.readers.csv_grammar import (
    CsvGrammar,
    Dialect,
    Records,
    csv_grammar,
    csv_parser,
    csv_rows,
    line_breaks,
    split_lines,
)
from batchgen.input.readers.text.streams import CELL_LIMIT, LINE_LIMIT, first_byte, text_blocks


@dataclass(frozen=True, slots=True)
class CsvHeader:
    """The names of the columns, and the other records of the same block.

    `unnamed` is the number of fields without a name behind them, which Excel writes for empty columns.
    """

    names: tuple[str, ...]
    unnamed: int
    rest: Records


def read_records(
    file: InputFile, dialect: Dialect, start: Position | None = None
) -> Iterator[Records]:
    """Yield the records of a file from a position on, about a block at a time.

    Raises:
        DataError: undecodable bytes, unmatched quotes, or a field that is too long.
    """
    grammar = csv_grammar(dialect.delimiter, dialect.quote)
    at, before = start or (first_byte(file, dialect.encoding), 0)
    rest, line = "", before + 1
    for block in text_blocks(file, dialect.encoding, start=start[0] if start else None):
        text = rest + block
        end = _end_of_records(text, grammar, dialect.quote)
        position = None if at is None else (at, line - 1)
        records, rest = Records(file.path, dialect, text[:end], line, position), text[end:]
        if end:
            yield records
            line += line_breaks(records.text)
            at = None if at is None else at + len(records.text.encode())
        _check_rest(Records(file.path, dialect, rest, line), grammar)
    if rest:
        position = None if at is None else (at, line - 1)
        records = Records(file.path, dialect, rest + "\n", line, position)
        if not grammar.records.fullmatch(records.text):
            raise explain_bad_record(records)
        yield records


def read_header(records: Iterator[Records], path: Path) -> CsvHeader:
    """Read the first record that is not an empty line; DataError if there is none, or a column is repeated."""
    skipped = 0
    for block in records:
        lines = split_lines(block.text)
        parser = csv_parser(lines, block.dialect)
        for fields in filter(None, csv_rows(parser)):
            if block.dialect.has_delimiter_line and not skipped:
                skipped = 1
                continue
            line = block.first_line + parser.line_num
            names = _without_unnamed(fields)
            _check_names(names, f"{path}:{line - 1}")
            rest = Records(path, block.dialect, "".join(lines[parser.line_num :]), line)
            return CsvHeader(tuple(names), len(fields) - len(names), rest)
    raise DataError(
        f"{path}: has no header: all lines are empty",
        hint="Wait if the file is still being written.",
    )


def _end_of_records(text: str, grammar: CsvGrammar, quote: str) -> int:
    # A CR at the very end may be half of a CRLF.
    stop = len(text) - text.endswith("\r")
    if quote not in text:
        return max(text.rfind("\n", 0, stop), text.rfind("\r", 0, stop - 1 if stop else 0)) + 1
    found = grammar.records.match(text, 0, stop)
    return found.end() if found else 0


def _check_rest(rest: Records, grammar: CsvGrammar) -> None:
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


def _without_unnamed(fields: Sequence[str]) -> Sequence[str]:
    """The names of a header up to the last one that is not empty; all if none is."""
    last = max((at for at, name in enumerate(fields) if name), default=len(fields) - 1)
    return fields[: last + 1]
