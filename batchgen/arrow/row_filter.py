"""`filter`: an SQL condition on each row, evaluated by Polars.

Import this module only when needed: importing Polars takes a quarter of a second.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from batchgen.errors import DataError, JobKeyError, UsageError

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_CLOCK = re.compile(
    r"\b(now|current_date|current_time|current_timestamp|localtime\w*)\b", re.IGNORECASE
)
_POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
_INPUT_FILTER = "input.filter"
_CAST = "Compare numbers with TRY_CAST(score AS DOUBLE) > 5 if the input is CSV, whose columns are text."


class RowFilter:
    """An SQL condition on the columns of a row, such as `lang = 'zh' AND length(question) > 5`."""

    def __init__(self, condition: str, schema: pa.Schema, key: str = _INPUT_FILTER) -> None:
        """Compile a condition; `key` is its key in the job, or an option, for messages.

        Raises:
            DataError: not a condition on these columns that is evaluated row by row.
        """
        self._condition = condition
        self._key = key
        self._table = "input" if key == _INPUT_FILTER else "output"
        self._expression = self._parsed(schema.names)
        try:
            kind = self._evaluated(schema.empty_table()).dtype
        except _POLARS_ERRORS as error:
            raise self._error(str(error).splitlines()[0], _CAST) from error
        if kind != pl.Boolean:
            raise self._error(
                f"gives {kind}; expected true or false", "Write a condition, such as lang = 'zh'."
            )

    @property
    def columns(self) -> Sequence[str]:
        """The columns that the condition reads."""
        return self._columns

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Whether the condition is true for each row; null counts as false.

        Raises:
            DataError: the condition cannot convert a value.
        """
        try:
            met = self._evaluated(table)
        except _POLARS_ERRORS as error:
            # The text of the error contains cells, so it is not shown.
            raise self._error(
                "cannot be evaluated: a value cannot be converted or compared",
                "Use TRY_CAST, which gives null where CAST fails.",
            ) from error
        return met.fill_null(value=False).to_numpy()

    def _parsed(self, names: Sequence[str]) -> pl.Expr:
        if found := _CLOCK.search(_QUOTED.sub(" ", self._condition)):
            raise self._error(
                f"{found.group()} changes from run to run",
                "Write the date, or ${date} for the date of the run.",
            )
        try:
            expression = pl.sql_expr(self._condition)
            roots = list(dict.fromkeys(expression.meta.root_names()))
            several = expression.meta.has_multiple_outputs()
            by_row = _is_by_row(expression)
        except _POLARS_ERRORS as error:
            reason = (str(error).splitlines() or [""])[0]
            if not reason or reason.endswith(" as Expr"):  # the words of polars, with the condition
                reason = "is not an SQL condition"
            raise self._error(reason, "Write a condition, such as lang = 'zh'.") from error
        if unknown := [name for name in roots if name not in names]:
            raise self._error(
                f"column {unknown[0]!r} is not in the {self._table}",
                f"The {self._table} has: {', '.join(names)}.",
            )
        if not by_row:
            raise self._error(
                "depends on more than one row", "Do not use aggregates or window functions."
            )
        if several or not roots:
            raise self._error("contains no column", f"The {self._table} has: {', '.join(names)}.")
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
    """Whether the result for a row depends only on that row, so that it is the same in any batch."""
    nodes = [expression]
    while nodes:
        node = nodes.pop()
        if node.meta.is_literal():
            continue
        try:
            if not node.meta.is_row_separable():
                return False
        except pl.exceptions.ColumnNotFoundError:
            # Polars cannot classify some functions, such as IN, without a table; their arguments are checked.
            pass
        nodes += node.meta.pop()
    return True


def parse_where(text: str, schema: pa.Schema) -> RowFilter | None:
    """The condition of the option --where on columns of a schema; None for an empty text. UsageError if it is invalid."""
    if not text:
        return None
    try:
        return RowFilter(text, schema.remove_metadata(), "--where")
    except JobKeyError as error:
        raise UsageError(f"--where: {error.problem.message}", hint=error.problem.hint) from error
