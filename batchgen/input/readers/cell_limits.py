"""Cells with invalid or too long text: the text is repaired or cut, and its row fails."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.types import TableBatch
from batchgen.input.readers.text.streams import CELL_LIMIT
from batchgen.records import Failure

_SURROGATE = re.compile("[\ud800-\udfff]")


def invalid_unicode(column: str) -> Failure:
    """The failure of a row with text that is not Unicode."""
    return Failure(
        "invalid_unicode",
        f"column {column!r} contains text that is not Unicode; the invalid parts are replaced by U+FFFD",
    )


def cell_too_long(column: str) -> Failure:
    """The failure of a row with a cell of more than CELL_LIMIT characters."""
    return Failure(
        "prompt_too_long",
        f"column {column!r} contains more than {CELL_LIMIT:,} characters; the rest of the text is cut off",
    )


def without_surrogates(value: object) -> object:
    """Replace each lone surrogate in the texts and keys of a JSON value by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def check_cells(table: pa.Table, failures: Mapping[int, Failure]) -> TableBatch:
    """Make all text valid and at most CELL_LIMIT characters long; the row of a changed cell fails.

    A text is repaired or cut; a list or struct becomes null.

    Args:
        table: columns of plain types (see arrow/types.py). Their text need not be valid UTF-8.
        failures: earlier failures of the rows, by position.
    """
    all_failures = dict(failures)
    for number, column in enumerate(table.schema):
        if not holds_text(column.type):
            continue
        array = table.column(number).combine_chunks()
        for check in _CHECKS:
            rows = list(_rows_where(array, check.finds))
            if rows:
                array = _repaired(array, rows, check.repair)
                failure = check.failure(column.name)
                all_failures = dict.fromkeys(rows, failure) | all_failures
                table = table.set_column(number, column, array)
    return TableBatch(table, all_failures)


def cut_texts(array: pa.StringArray, limit: int) -> pa.StringArray:
    """Cut the texts longer than CELL_LIMIT to `limit` characters."""
    rows = list(_rows_where(array, _is_too_long))
    return _repaired(array, rows, lambda text: _cut(text, limit))


@dataclass(frozen=True, slots=True)
class _Check:
    finds: Callable[[pa.Array], bool]
    repair: Callable[[bytes], str]
    failure: Callable[[str], Failure]


def holds_text(type_: pa.DataType) -> bool:
    """Whether values of a type contain text, at any depth."""
    return pa.types.is_string(type_) or any(
        holds_text(type_.field(i).type) for i in range(type_.num_fields)
    )


def _texts(array: pa.Array) -> Iterator[pa.StringArray]:
    """The string arrays that an array consists of."""
    if pa.types.is_string(array.type):
        yield array
    elif pa.types.is_list(array.type):
        yield from _texts(array.flatten())
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            yield from _texts(child)


def _is_not_unicode(array: pa.Array) -> bool:
    for text in _texts(array):
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            return True
    return False


def has_long_text(texts: pa.StringArray | pa.ChunkedArray) -> bool:
    """Whether one of the texts has more than CELL_LIMIT characters."""
    # The number of bytes is an upper bound, and is known without reading the text.
    most = pc.max(pc.binary_length(texts)).as_py() or 0
    return most > CELL_LIMIT and pc.max(pc.utf8_length(texts)).as_py() > CELL_LIMIT


def _is_too_long(array: pa.Array) -> bool:
    return any(map(has_long_text, _texts(array)))


def _rows_where(
    array: pa.Array, is_bad: Callable[[pa.Array], bool], start: int = 0
) -> Iterator[int]:
    """Positions of the bad rows, by bisection: a single check if there are none."""
    if len(array) == 0 or not is_bad(array):
        return
    if len(array) == 1:
        yield start
        return
    middle = len(array) // 2
    yield from _rows_where(array.slice(0, middle), is_bad, start)
    yield from _rows_where(array.slice(middle), is_bad, start + middle)


def _repaired(array: pa.Array, rows: list[int], repair: Callable[[bytes], str]) -> pa.Array:
    """The array with some rows repaired; rows of lists and structs become null."""
    pieces: list[pa.Array] = []
    end = 0
    for row in rows:
        text: str | None = None
        if pa.types.is_string(array.type):
            text = repair(array.slice(row, 1).view(pa.binary())[0].as_py())
        pieces += [array.slice(end, row - end), pa.array([text], array.type)]
        end = row + 1
    return pa.concat_arrays([*pieces, array.slice(end)])


def _cut(text: bytes, limit: int = CELL_LIMIT) -> str:
    # A character has at most four bytes; decoding all of a huge cell would double its memory.
    return text[: 4 * limit].decode("utf-8", "replace")[:limit]


_CHECKS = (
    # In this order: a cut text is valid, and is not checked again as a whole.
    _Check(_is_too_long, _cut, cell_too_long),
    _Check(_is_not_unicode, lambda text: text.decode("utf-8", "replace"), invalid_unicode),
)
