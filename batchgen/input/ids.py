"""Ids of rows: as text, present and unique.

They are compared by a 64-bit hash, eight bytes a row; ids whose hash occurs twice are compared again as text. Ids that a
reader takes for one are one: surrounding spaces and the Unicode form of accents do not count.
"""

import difflib
import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import DataError, JobKeyError

_SHOWN = 3

_SHORTENED = re.compile(r"\d(\.\d+)?E\+\d+")
"""A long number as Excel writes it to CSV."""

RowLabeler = Callable[[int], str]
"""Label of a row for messages, from its number in the whole input."""


@dataclass(frozen=True, slots=True)
class RowIds:
    """Ids of some rows, null where missing, and the numbers of these rows in the whole input."""

    texts: pa.StringArray
    rows: npt.NDArray[np.int64]


class _Found(NamedTuple):
    """An id as it is written, and the number of its row in the whole input."""

    text: str
    row: int


def find_id_column(name: str | None, columns: Sequence[str]) -> str | None:
    """The id column: `name` if given, which must exist, else `id`; None if row numbers are the ids."""
    if name is not None:
        check_column("input.columns.id", name, columns)
        return name
    return "id" if "id" in columns else None


def check_column(key: str, name: str, columns: Sequence[str]) -> None:
    """Raise JobKeyError if the column of a job key is not in the input."""
    if name in columns:
        return
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    if len(columns) == 1:
        hint += "If the file has several columns, check input.csv.delimiter. "
    listed = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
    raise JobKeyError(
        key, f"column {name!r} is not in the input", hint=f"{hint}The input has: {listed}."
    )


def id_texts(column: pa.ChunkedArray, name: str) -> pa.StringArray:
    """The ids in a column as text; null where missing, blank or NaN. DataError for lists, structs and bytes."""
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise _unusable(name, str(column.type))
    texts = column.cast(pa.string()).combine_chunks()
    missing = pc.equal(pc.utf8_trim_whitespace(texts), "")
    if pa.types.is_floating(column.type):  # pandas writes a missing whole number as NaN
        missing = pc.or_kleene(missing, pc.is_nan(column.combine_chunks()))
    return pc.if_else(missing, pa.scalar(None, pa.string()), texts)


def original_id_texts(values: Sequence[object], field: pa.Field) -> pa.StringArray:
    """Ids as text from cells as Python objects, each as if its type were that of the column."""
    if pa.types.is_nested(field.type):
        raise _unusable(field.name, str(field.type))
    texts: list[str | None] = [value if isinstance(value, str) else None for value in values]
    for kind in set(map(type, values)) - {str, type(None)}:
        if kind in (list, dict):
            raise _unusable(
                field.name, "a list in some rows" if kind is list else "an object in some rows"
            )
        rows = [row for row, value in enumerate(values) if type(value) is kind]
        cells = [values[row] for row in rows]
        # Arrow has no whole numbers of more than 64 bits.
        of_kind = (
            list(map(str, cells)) if kind is int else pa.array(cells).cast(pa.string()).to_pylist()
        )
        for row, cell, text in zip(rows, cells, of_kind, strict=True):
            texts[row] = None if cell != cell else text  # NaN is not equal to itself
    return pa.array(texts, pa.string())


def _unusable(name: str, found: str) -> DataError:
    return DataError(
        f"input.columns.id: column {name!r} is {found}; expected text or numbers",
        hint="Name a column of text or numbers that is unique for each row.",
    )


class IdCheck:
    """Checks that no id is missing or repeated; DataError otherwise. `column` and `row_label` are for messages."""

    def __init__(self, column: str, row_label: RowLabeler) -> None:
        self._column = column
        self._row_label = row_label
        self._hashes: array[int] = array("Q")

    def add(self, ids: RowIds) -> None:
        """Add ids; DataError if one is missing."""
        if ids.texts.null_count:
            missing = ids.rows[np.asarray(ids.texts.is_null())]
            raise DataError(
                f"column {self._column!r} has no id in {self._labels(missing)}",
                hint="Give each row an id, exclude such rows with input.filter, or name another column in "
                "input.columns.id.",
            )
        self._hashes.frombytes(_hashes(ids.texts).tobytes())

    def finish(self, again: Callable[[], Iterable[RowIds]]) -> None:
        """Check that all ids differ; `again` returns the ids once more if a hash occurred twice."""
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        hashes.sort()
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        # Different ids with the same hash are nearly impossible; the loop then continues.
        for start in range(0, len(repeated), 1000):
            rows = _rows_of(again(), repeated[start : start + 1000])
            if duplicates := [found for found in rows.values() if len(found) > 1]:
                raise self._duplicate_error(duplicates)

    def _duplicate_error(self, duplicates: Sequence[Sequence[_Found]]) -> DataError:
        first = sorted(duplicates, key=lambda found: found[1].row)[:_SHOWN]
        hint = "Remove the duplicate rows, or name another column in input.columns.id."
        if any(_SHORTENED.fullmatch(found[0].text) for found in first):
            hint += " If a spreadsheet shortened long numbers, format the column as text in it."
        if any(len({one.text for one in found}) > 1 for found in first):
            hint += " Spaces around an id and the Unicode form of accents do not make a difference."
        shown = "; ".join(map(self._shown, first))
        return DataError(f"column {self._column!r} repeats ids: {shown}", hint=hint)

    def _shown(self, found: Sequence[_Found]) -> str:
        """Rows that have one id, and their texts."""
        if len({one.text for one in found}) == 1:
            return f"{found[0].text!r} in {self._labels([one.row for one in found])}"
        shown = [f"{one.text!a} in {self._row_label(one.row)}" for one in found[:_SHOWN]]
        return ", ".join(shown)

    def _labels(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> str:
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        return ", ".join(self._row_label(int(row)) for row in rows[:_SHOWN]) + more


def _comparable(texts: pa.StringArray) -> pa.StringArray:
    """The ids as they are compared."""
    return pc.utf8_trim_whitespace(pc.utf8_normalize(texts, form="NFC"))


def _hashes(texts: pa.StringArray) -> npt.NDArray[np.uint64]:
    import polars as pl

    return pl.Series("id", _comparable(texts)).hash().to_numpy()


def _rows_of(ids: Iterable[RowIds], hashes: npt.NDArray[np.uint64]) -> dict[str, list[_Found]]:
    """The rows of each id whose hash is among `hashes`, by the id as it is compared."""
    rows: dict[str, list[_Found]] = {}
    for block in ids:
        compared = _comparable(block.texts)
        for position in np.flatnonzero(np.isin(_hashes(block.texts), hashes)):
            text = block.texts[int(position)].as_py()
            found = _Found(text, int(block.rows[position]))
            rows.setdefault(compared[int(position)].as_py(), []).append(found)
    return rows
