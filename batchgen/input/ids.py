"""Ids of rows: as text, present and unique.

They are compared by a 64-bit hash, eight bytes a row; ids whose hash occurs twice are compared again as text.
"""

import difflib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.errors import DataError, JobKeyError

_SHOWN = 3

RowLabeler = Callable[[int], str]
"""Label of a row for messages, from its number in the whole input."""


@dataclass(frozen=True, slots=True)
class RowIds:
    """Ids of some rows, null where missing, and the numbers of these rows in the whole input."""

    texts: pa.StringArray
    rows: npt.NDArray[np.int64]


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
    """The ids in a column as text; null where missing or empty. DataError for lists, structs and bytes."""
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise DataError(
            f"input.columns.id: column {name!r} is {column.type}; expected text or numbers",
            hint="Name a column of text or numbers that is unique for each row.",
        )
    texts = column.cast(pa.string()).combine_chunks()
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


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
            if duplicates := {text: found for text, found in rows.items() if len(found) > 1}:
                raise self._duplicate_error(duplicates)

    def _duplicate_error(self, rows: dict[str, list[int]]) -> DataError:
        first = sorted(rows.items(), key=lambda item: item[1][1])[:_SHOWN]
        shown = "; ".join(f"{text!r} in {self._labels(found)}" for text, found in first)
        return DataError(
            f"column {self._column!r} repeats ids: {shown}",
            hint="Remove the duplicate rows, or name another column in input.columns.id.",
        )

    def _labels(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> str:
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        return ", ".join(self._row_label(int(row)) for row in rows[:_SHOWN]) + more


def _hashes(texts: pa.StringArray) -> npt.NDArray[np.uint64]:
    import polars as pl

    return pl.Series("id", texts).hash().to_numpy()


def _rows_of(ids: Iterable[RowIds], hashes: npt.NDArray[np.uint64]) -> dict[str, list[int]]:
    """The row numbers of each id whose hash is among `hashes`."""
    rows: dict[str, list[int]] = {}
    for block in ids:
        for position in np.flatnonzero(np.isin(_hashes(block.texts), hashes)):
            rows.setdefault(block.texts[int(position)].as_py(), []).append(
                int(block.rows[position])
            )
    return rows
