"""Blocks of numbered input rows: filtering, slicing, concatenating, reading in other sizes."""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.arrow.types import Position
from batchgen.arrow.values import python_values
from batchgen.records import Failure

Cells = npt.NDArray[np.object_]
"""Cells of a column as Python objects."""


def object_array(values: Sequence[object]) -> Cells:
    """The values as an array of objects, also where they are lists."""
    return np.fromiter(values, dtype=np.object_, count=len(values))


@dataclass(frozen=True, slots=True)
class BlockStart:
    """Where a block begins.

    Attributes:
        file: number of its file.
        position: in that file, as in `TableBatch`; None for its first row.
        row: number of its first row in the whole input.
        selected: selected rows of the input before it.
    """

    file: int
    position: Position | None
    row: int
    selected: int = 0


BEGINNING = BlockStart(0, None, 0)
"""Of the input."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, with their numbers in the whole input.

    Attributes:
        failures: by position in the block.
        originals: cells of columns, as in `TableBatch`.
        start: where these rows can be read again without those before them; None for rows in the middle of a batch.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    failures: Mapping[int, Failure]
    originals: Mapping[str, Cells] = field(default_factory=dict)
    start: BlockStart | None = None

    def cells(self, column: str) -> Cells:
        """The cells of a column: those of each row's own line or file."""
        if column in self.originals:
            return self.originals[column]
        return object_array(python_values(self.table.column(column)))

    def where(self, kept: npt.NDArray[np.bool_]) -> "Block":
        if kept.all():
            return self
        positions = np.flatnonzero(kept)
        new = {int(old): number for number, old in enumerate(positions)} if self.failures else {}
        failures = {new[old]: failure for old, failure in self.failures.items() if old in new}
        originals = {name: cells[positions] for name, cells in self.originals.items()}
        return Block(
            self.table.take(pa.array(positions)), self.rows[positions], failures, originals
        )

    def slice(self, start: int, stop: int) -> "Block":
        failures = {
            old - start: failure for old, failure in self.failures.items() if start <= old < stop
        }
        originals = {name: cells[start:stop] for name, cells in self.originals.items()}
        return Block(
            self.table.slice(start, stop - start), self.rows[start:stop], failures, originals
        )


def concat_blocks(blocks: list[Block]) -> Block:
    """Concatenate blocks, at least one."""
    if len(blocks) == 1:
        return blocks[0]
    failures: dict[int, Failure] = {}
    start = 0
    for block in blocks:
        failures |= {start + position: failure for position, failure in block.failures.items()}
        start += len(block.rows)
    rows = np.concatenate([block.rows for block in blocks])
    names = dict.fromkeys(name for block in blocks for name in block.originals)
    originals = {name: np.concatenate([block.cells(name) for block in blocks]) for name in names}
    return Block(pa.concat_tables([block.table for block in blocks]), rows, failures, originals)


class BlockCursor:
    """Reads blocks as one sequence of rows; `at` is the number of the next row."""

    def __init__(self, blocks: Iterator[Block], at: int) -> None:
        self.at = at
        self._blocks = blocks
        self._block: Block | None = None
        self._used = 0

    def skip(self, rows: int) -> None:
        for _ in self._pieces(rows):
            pass

    def take(self, rows: int) -> Block | None:
        """The next rows; fewer at the end, and None if there are none."""
        pieces = [block.slice(start, stop) for block, start, stop in self._pieces(rows)]
        return concat_blocks(pieces) if pieces else None

    def _pieces(self, rows: int) -> Iterator[tuple[Block, int, int]]:
        while rows:
            while self._block is None or self._used == len(self._block.rows):
                self._block, self._used = next(self._blocks, None), 0
                if self._block is None:
                    return
            start = self._used
            self._used = min(len(self._block.rows), start + rows)
            self.at += self._used - start
            rows -= self._used - start
            yield self._block, start, self._used


@dataclass(slots=True)
class RowLocations:
    """The rows of each file; filled in while the files are read."""

    files: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    rows: int = 0

    def start_file(self, file: str) -> None:
        """Count the following rows as rows of `file`, its name in messages."""
        self.files.append(file)
        self.starts.append(self.rows)

    def row_label(self, row: int) -> str:
        """File and row number in it, from 0, for messages; `row` is the number in the whole input."""
        number = bisect.bisect_right(self.starts, row) - 1
        return f"{self.files[number]} row {row - self.starts[number]:,}"
