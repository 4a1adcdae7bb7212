"""Which rows of the input are used: `filter` as a condition over each row, `sample` as a draw by row number.

Neither depends on how the rows come in batches. Knows nothing of files.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from batchgen.errors import DataError

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_CLOCK = re.compile(
    r"\b(now|current_date|current_time|current_timestamp|localtime\w*)\b", re.IGNORECASE
)
_CAST = "Columns of CSV are text: compare numbers by TRY_CAST(score AS DOUBLE) > 5."


class RowFilter:
    """An SQL condition over the columns of a row, such as `lang = 'zh' AND length(question) > 5`."""

    def __init__(self, condition: str, schema: pa.Schema) -> None:
        """Compile a condition against the columns that there are.

        Raises:
            DataError: not one condition over these columns, row by row.
        """
        self._condition = condition
        self._expression = self._parsed(schema.names)
        empty = _frame(schema.empty_table().select(self._columns))
        kind = self._evaluated(empty).dtype
        if kind != pl.Boolean:
            raise self._error(f"gives {kind}; expected true or false", "Such as lang = 'zh'.")

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Whether each row meets the condition; a null does not."""
        return (
            self._evaluated(_frame(table.select(self._columns))).fill_null(value=False).to_numpy()
        )

    def _parsed(self, names: Sequence[str]) -> pl.Expr:
        if found := _CLOCK.search(_QUOTED.sub(" ", self._condition)):
            raise self._error(
                f"{found.group()} changes from run to run",
                "Write the date, or ${date} for that of the run.",
            )
        try:
            expression = pl.sql_expr(self._condition)
            roots = list(dict.fromkeys(expression.meta.root_names()))
            several = expression.meta.has_multiple_outputs()
            by_row = _is_by_row(expression)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = str(error).splitlines()[0] if str(error) else "cannot be parsed"
            raise self._error(reason, "Expected a condition, such as lang = 'zh'.") from error
        if unknown := [name for name in roots if name not in names]:
            raise self._error(
                f"column {unknown[0]!r} is not in the input", f"The input has: {', '.join(names)}."
            )
        if not by_row:
            raise self._error(
                "looks at more than one row", "Aggregates and windows have no place in a filter."
            )
        if several or not roots:
            raise self._error("names no column by itself", f"The input has: {', '.join(names)}.")
        self._columns = roots
        return expression

    def _evaluated(self, frame: pl.DataFrame) -> pl.Series:
        try:
            return frame.select(self._expression.alias("kept")).to_series()
        except pl.exceptions.InvalidOperationError as error:
            # The text of this error repeats cells.
            raise self._error(
                "a value cannot be converted as it asks", "TRY_CAST gives null there."
            ) from error
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise self._error(str(error).splitlines()[0], _CAST) from error

    def _error(self, problem: str, hint: str) -> DataError:
        return DataError(f"input.filter: {self._condition!r}: {problem}", hint=hint)


def _is_by_row(expression: pl.Expr) -> bool:
    """Whether a row's result depends on that row alone, so that it is the same in any batch."""
    nodes = [expression]
    while nodes:
        node = nodes.pop()
        if node.meta.is_literal():
            continue
        try:
            if not node.meta.is_row_separable():
                return False
        except pl.exceptions.ColumnNotFoundError:
            # Some functions of SQL, such as IN, know themselves only beside a table; what they hold is looked at.
            pass
        nodes += node.meta.pop()
    return True


def sample_keys(rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """A random key for each row, by its number in the input: the rows with the least keys are drawn.

    The finalizer of splitmix64 (Steele, Lea and Flood 2014) over row number and seed. It is a bijection of the
    number, so that no two rows share a key.

    Returns:
        uint64, as long as `rows`.
    """
    start = _mixed(np.array([seed], dtype=np.uint64))
    return _mixed((rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + start)


def _mixed(key: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


class LeastKeys:
    """The `size` least of many keys, seen some at a time; holds at most some more than `size`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept = np.empty(0, dtype=np.uint64)

    def add(self, keys: npt.NDArray[np.uint64]) -> None:
        """See some more keys."""
        if len(self._kept) == self._size:
            keys = keys[keys < self._kept.max()]
        kept = np.concatenate([self._kept, keys])
        if len(kept) > self._size:
            kept = np.partition(kept, self._size - 1)[: self._size]
        self._kept = kept

    def greatest(self) -> int | None:
        """The greatest of the least keys; None when there were fewer keys than `size`."""
        return int(self._kept.max()) if len(self._kept) == self._size else None


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"a table became {type(frame).__name__}")
    return frame
