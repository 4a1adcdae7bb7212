"""Keys of rows: as text, never missing, each once.

Told apart by a 64-bit hash, eight bytes a row; ids whose hash occurs twice are looked at once more, as texts.
Knows nothing of files.
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
"""Names a row, given its number in the whole input, for messages."""


@dataclass(frozen=True, slots=True)
class RowIds:
    """Ids of some rows, as text, null where there is none; and the numbers of these rows in the whole input."""

    texts: pa.StringArray
    rows: npt.NDArray[np.int64]


def find_id_column(asked: str | None, columns: Sequence[str]) -> str | None:
    """The column with the ids: the one asked for, else one called `id`; None where row numbers serve.

    Raises:
        DataError: the one asked for is not there.
    """
    if asked is not None:
        check_column("input.columns.id", asked, columns)
        return asked
    return "id" if "id" in columns else None


def check_column(key: str, name: str, columns: Sequence[str]) -> None:
    """Raise DataError if the column that a key of the job names is not there."""
    if name in columns:
        return
    near = difflib.get_close_matches(name, columns, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    if len(columns) == 1:
        hint += "If this is several columns, is input.csv.delimiter right? "
    listed = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
    raise JobKeyError(
        key, f"column {name!r} is not in the input", hint=f"{hint}The input has: {listed}."
    )


def id_texts(column: pa.ChunkedArray, name: str) -> pa.StringArray:
    """The ids in a column, as text; null where there is none, or an empty one.

    Raises:
        DataError: lists, structs or bytes.
    """
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        raise DataError(
            f"input.columns.id: column {name!r} is {column.type}; expected text or numbers",
            hint="Name a column with a key for each row.",
        )
    texts = column.cast(pa.string()).combine_chunks()
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


class IdCheck:
    """Whether every id is there, and there once. `column` and `place` are for messages."""

    def __init__(self, column: str, place: RowLabeler) -> None:
        self._column = column
        self._place = place
        self._hashes: array[int] = array("Q")

    def add(self, ids: RowIds) -> None:
        """See some more ids.

        Raises:
            DataError: some are missing.
        """
        if ids.texts.null_count:
            missing = ids.rows[np.asarray(ids.texts.is_null())]
            raise DataError(
                f"column {self._column!r} has no id in {self._named(missing)}",
                hint="Give each row an id, leave such rows out with input.filter, or name another column in "
                "input.columns.id.",
            )
        self._hashes.frombytes(_hashes(ids.texts).tobytes())

    def finish(self, again: Callable[[], Iterable[RowIds]]) -> None:
        """Decide whether all ids differ.

        Args:
            again: gives the ids once more, where some hash occurred twice.

        Raises:
            DataError: an id occurs twice.
        """
        hashes = np.frombuffer(self._hashes, dtype=np.uint64)
        hashes.sort()
        repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        # Different ids with one hash are all but impossible; then the next ones are looked at.
        for start in range(0, len(repeated), 1000):
            rows = _rows_of(again(), repeated[start : start + 1000])
            if twice := {text: found for text, found in rows.items() if len(found) > 1}:
                raise self._twice(twice)

    def _twice(self, rows: dict[str, list[int]]) -> DataError:
        first = sorted(rows.items(), key=lambda item: item[1][1])[:_SHOWN]
        named = "; ".join(f"{text!r} in {self._named(found)}" for text, found in first)
        return DataError(
            f"column {self._column!r} repeats ids: {named}",
            hint="Each row needs an id of its own: drop the copies, or name another column in input.columns.id.",
        )

    def _named(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> str:
        more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
        return ", ".join(self._place(int(row)) for row in rows[:_SHOWN]) + more


def _hashes(texts: pa.StringArray) -> npt.NDArray[np.uint64]:
    import polars as pl

    return pl.Series("id", texts).hash().to_numpy()


def _rows_of(ids: Iterable[RowIds], hashes: npt.NDArray[np.uint64]) -> dict[str, list[int]]:
    """The rows of each id that has one of some hashes."""
    rows: dict[str, list[int]] = {}
    for block in ids:
        for position in np.flatnonzero(np.isin(_hashes(block.texts), hashes)):
            rows.setdefault(block.texts[int(position)].as_py(), []).append(
                int(block.rows[position])
            )
    return rows
