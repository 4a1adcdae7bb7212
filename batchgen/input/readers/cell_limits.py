"""Cells that no later step could carry: text that is not Unicode, and text without end.

A row with such a cell fails, and only that row; what stays in the table is fit to be written. Knows nothing of files.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.types import TableBatch
from batchgen.input.readers.streams import CELL_LIMIT
from batchgen.records import Failure

_SURROGATE = re.compile("[\ud800-\udfff]")


def invalid_unicode(column: str) -> Failure:
    """The failure of a row with text that is not Unicode."""
    return Failure(
        "invalid_unicode",
        f"column {column!r} holds text that is not Unicode; what is not is shown as U+FFFD",
    )


def cell_too_long(column: str) -> Failure:
    """The failure of a row with a cell of more than CELL_LIMIT characters."""
    return Failure(
        "prompt_too_long",
        f"column {column!r} holds more than {CELL_LIMIT:,} characters; the rest of the text is cut off",
    )


def without_surrogates(value: object) -> object:
    """A value of JSON, each lone surrogate in its texts and keys replaced by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return value


def check_cells(table: pa.Table, failures: Mapping[int, Failure]) -> TableBatch:
    """A batch whose text is Unicode and at most CELL_LIMIT long.

    Where a cell is not, its row fails. A text is repaired or cut; a list or struct becomes null.

    Args:
        table: columns of plain types (see expected_types.py). Their text need not be valid UTF-8.
        failures: those that the rows have already, by position.
    """
    found = dict(failures)
    for number, column in enumerate(table.schema):
        if not holds_text(column.type):
            continue
        array = table.column(number).combine_chunks()
        for check in _CHECKS:
            rows = list(_rows_where(array, check.finds))
            if rows:
                array = _repaired(array, rows, check.repair)
                found |= {row: check.failure(column.name) for row in rows if row not in found}
                table = table.set_column(number, column, array)
    return TableBatch(table, found)


def cut_texts(array: pa.StringArray, limit: int) -> pa.StringArray:
    """The texts, of which those beyond CELL_LIMIT are cut to `limit` characters."""
    rows = list(_rows_where(array, _is_too_long))
    return _repaired(array, rows, lambda text: _cut(text, limit))


@dataclass(frozen=True, slots=True)
class _Check:
    """Whether an array holds a bad text, how to repair it, and the failure of its row."""

    finds: Callable[[pa.Array], bool]
    repair: Callable[[bytes], str]
    failure: Callable[[str], Failure]


def holds_text(type_: pa.DataType) -> bool:
    """Whether there is text in values of a type, at any depth."""
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


def _is_too_long(array: pa.Array) -> bool:
    for text in _texts(array):
        # Bytes are counted without reading them, and are never fewer than characters.
        most = pc.max(pc.binary_length(text)).as_py()
        if most is not None and most > CELL_LIMIT:
            longest = pc.max(pc.utf8_length(text)).as_py()
            if longest > CELL_LIMIT:
                return True
    return False


def _rows_where(
    array: pa.Array, is_bad: Callable[[pa.Array], bool], start: int = 0
) -> Iterator[int]:
    """Positions of the bad rows, by halves: one look where nothing is wrong."""
    if len(array) == 0 or not is_bad(array):
        return
    if len(array) == 1:
        yield start
        return
    middle = len(array) // 2
    yield from _rows_where(array.slice(0, middle), is_bad, start)
    yield from _rows_where(array.slice(middle), is_bad, start + middle)


def _repaired(array: pa.Array, rows: list[int], repair: Callable[[bytes], str]) -> pa.Array:
    """The array with some rows repaired, or null where they are not plain text."""
    pieces: list[pa.Array] = []
    end = 0
    for row in rows:
        text: str | None = None
        if pa.types.is_string(array.type):
            text = repair(array.slice(row, 1).view(pa.binary())[0].as_py())
        pieces += [array.slice(end, row - end), pa.array([text], array.type)]
        end = row + 1
    return pa.concat_arrays([*pieces, array.slice(end)])


def _replaced(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _cut(text: bytes, limit: int = CELL_LIMIT) -> str:
    # A character has at most four bytes; decoding all of a cell without end would take as much again.
    return text[: 4 * limit].decode("utf-8", "replace")[:limit]


_CHECKS = (
    # In this order: cutting leaves valid text, and saves looking at all of it.
    _Check(_is_too_long, _cut, cell_too_long),
    _Check(_is_not_unicode, _replaced, invalid_unicode),
)
