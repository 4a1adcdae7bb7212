"""What the first rows of a table contain, column by column."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen.arrow.list_cell import is_user_message, list_items
from batchgen.errors import DataError
from batchgen.input.files import find_files
from batchgen.input.input_table import open_table
from batchgen.job.spec import Input
from batchgen.metrics.language import main_script

ROWS = 1000
"""Rows that are looked at."""
_NUMBER = re.compile(r"\s*[-+]?[\d,]*\.?\d+\s*%?\s*")
_SOLUTION = re.compile(r"(?s).*####\s*[-+$]?[\d,]*\.?\d+\s*%?\s*")
_ENOUGH = 0.95
"""Share of the cells that decides what a column contains."""


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """A column; `cells` are those that are not null, as they are read."""

    name: str
    cells: Sequence[object]
    rows: int

    @property
    def texts(self) -> list[str]:
        return [str(cell) for cell in self.cells]

    @property
    def distinct(self) -> list[str]:
        """The different texts, in order of appearance."""
        return list(dict.fromkeys(self.texts))

    @property
    def mean_length(self) -> float:
        """Characters of a cell; 0 without cells."""
        return sum(map(len, self.texts)) / max(1, len(self.cells))

    @property
    def is_key(self) -> bool:
        """Whether every row has a value, and no two have the same."""
        return len(self.cells) == self.rows == len(self.distinct)

    @property
    def is_numeric(self) -> bool:
        return self._most(_NUMBER.fullmatch)

    @property
    def is_solution(self) -> bool:
        """Whether cells end with a number after `####`, as in GSM8K."""
        return self._most(_SOLUTION.fullmatch)

    @property
    def is_conversation(self) -> bool:
        """Whether cells are lists of chat messages, or JSON text of such lists."""
        return self._most(_is_conversation, texts=False)

    @property
    def is_answered(self) -> bool:
        """Whether most cells are conversations that do not end with the user's message."""
        ends = [items[-1] for cell in self.cells if (items := list_items(cell))]
        return 2 * sum(map(is_user_message, ends)) < len(ends)

    @property
    def is_turns(self) -> bool:
        """Whether cells are lists of texts, or JSON text of such lists."""
        return self._most(_is_turns, texts=False)

    @property
    def is_text(self) -> bool:
        return bool(self.cells) and all(isinstance(cell, str) for cell in self.cells)

    def labels(self, most: int) -> list[str]:
        """The values of a column that repeats a few short ones, sorted; empty for any other column."""
        found = self.distinct
        repeats = 2 <= len(found) <= most and len(self.cells) >= 2 * len(found)
        return sorted(found) if repeats and max(map(len, found)) <= 40 else []

    def _most(self, test: Callable[[Any], object], *, texts: bool = True) -> bool:
        values: Sequence[object] = self.texts if texts else self.cells
        return bool(values) and sum(bool(test(v)) for v in values) >= _ENOUGH * len(values)


@dataclass(frozen=True, slots=True)
class TableProfile:
    """The first rows of the input.

    Attributes:
        dialect: format, encoding and delimiter, for display.
    """

    path: Path
    dialect: str
    columns: tuple[ColumnProfile, ...]
    rows: int

    @property
    def is_chinese(self) -> bool:
        """Whether most cells with letters are Chinese, or most names of columns."""
        names = [main_script(column.name) for column in self.columns]
        texts = [t for column in self.columns if column.is_text for t in column.texts[:100]]
        scripts = [script for text in texts if (script := main_script(text)) is not None]
        return any(2 * found.count("Han") > len(found) for found in (names, scripts))


def read_profile(path: Path) -> TableProfile:
    """Look at the first rows of a file.

    Raises:
        DataError: it cannot be read, or contains no row.
    """
    spec = Input(path=str(path))
    table = open_table(find_files(spec), spec)
    schema = table.schema()
    cells: dict[str, list[object]] = {name: [] for name in schema.names}
    rows = 0
    for batch in table.batches(schema, 0):
        taken = batch.table.slice(0, ROWS - rows)
        for name, found in cells.items():
            found += [cell for cell in taken.column(name).to_pylist() if cell is not None]
        rows += taken.num_rows
        if rows >= ROWS:
            break
    if rows == 0:
        raise DataError(f"{path} contains no row", hint="Give a table with at least one row.")
    columns = tuple(ColumnProfile(name, found, rows) for name, found in cells.items())
    return TableProfile(path, table.describe(), columns, rows)


def _is_conversation(cell: object) -> bool:
    items = list_items(cell)
    return bool(items) and all(
        isinstance(m, dict) and ({"role", "content"} <= m.keys() or {"from", "value"} <= m.keys())
        for m in items or ()
    )


def _is_turns(cell: object) -> bool:
    items = list_items(cell)
    return bool(items) and all(isinstance(item, str) for item in items or ())
