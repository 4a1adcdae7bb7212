"""`filter` as a condition over each row, compiled and run by Polars.

A module of its own because Polars takes a quarter of a second to import: only jobs with a filter pay for it.
It does not depend on how the rows come in batches. Knows nothing of files.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from batchgen.errors import DataError, JobKeyError

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_CLOCK = re.compile(
    r"\b(now|current_date|current_time|current_timestamp|localtime\w*)\b", re.IGNORECASE
)
_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
_CAST = "Columns of CSV are text: compare numbers by TRY_CAST(score AS DOUBLE) > 5."


class RowFilter:
    """An SQL condition over the columns of a row, such as `lang = 'zh' AND length(question) > 5`."""

    def __init__(self, condition: str, schema: pa.Schema, key: str = "input.filter") -> None:
        """Compile a condition against the columns that there are. `key` is where the job says it.

        Raises:
            DataError: not one condition over these columns, row by row.
        """
        self._condition = condition
        self._key = key
        self._expression = self._parsed(schema.names)
        try:
            kind = self._evaluated(schema.empty_table()).dtype
        except _POLARS_ERRORS as error:
            raise self._error(str(error).splitlines()[0], _CAST) from error
        if kind != pl.Boolean:
            raise self._error(f"gives {kind}; expected true or false", "Such as lang = 'zh'.")

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Whether each row meets the condition; a null does not.

        Raises:
            DataError: a value that the condition cannot convert.
        """
        try:
            met = self._evaluated(table)
        except _POLARS_ERRORS as error:
            # Here the text of the error repeats cells.
            raise self._error(
                "cannot be evaluated: a value is not what it converts or compares",
                "TRY_CAST gives null where CAST fails.",
            ) from error
        return met.fill_null(value=False).to_numpy()

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
        except _POLARS_ERRORS as error:
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

    def _evaluated(self, table: pa.Table) -> pl.Series:
        frame = pl.from_arrow(table.select(self._columns))
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(f"a table became {type(frame).__name__}")
        return frame.select(self._expression.alias("met")).to_series()

    def _error(self, problem: str, hint: str) -> DataError:
        return JobKeyError(self._key, f"{self._condition!r}: {problem}", hint=hint)


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
