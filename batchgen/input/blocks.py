"""Rows of the input on their way to chunks: numbered, thinned out, cut to size. Knows nothing of files' formats."""

import bisect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.records import Failure


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows, with their numbers over the whole input; failures by position."""

    table: pa.Table
    rows: npt.NDArray[np.int64]
    failures: Mapping[int, Failure]

    def where(self, kept: npt.NDArray[np.bool_]) -> "Block":
        """The rows that are kept."""
        if kept.all():
            return self
        positions = np.flatnonzero(kept)
        new = {int(old): number for number, old in enumerate(positions)} if self.failures else {}
        failures = {new[old]: failure for old, failure in self.failures.items() if old in new}
        return Block(self.table.take(pa.array(positions)), self.rows[positions], failures)

    def slice(self, start: int, stop: int) -> "Block":
        """The rows from position `start` up to `stop`."""
        failures = {
            old - start: found for old, found in self.failures.items() if start <= old < stop
        }
        return Block(self.table.slice(start, stop - start), self.rows[start:stop], failures)


def concat_blocks(blocks: list[Block]) -> Block:
    """Blocks, at least one, as one."""
    if len(blocks) == 1:
        return blocks[0]
    failures: dict[int, Failure] = {}
    start = 0
    for block in blocks:
        failures |= {start + position: found for position, found in block.failures.items()}
        start += len(block.rows)
    rows = np.concatenate([block.rows for block in blocks])
    return Block(pa.concat_tables([block.table for block in blocks]), rows, failures)


def rechunk(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """The same rows in blocks of exactly so many, but for the last."""
    held: list[Block] = []
    room = rows
    for block in blocks:
        start = 0
        while start < len(block.rows):
            stop = min(len(block.rows), start + room)
            held.append(block.slice(start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield concat_blocks(held)
                held, room = [], rows
    if held:
        yield concat_blocks(held)


@dataclass(slots=True)
class RowLocations:
    """Which rows are in which file; filled in as the files are read."""

    files: list[Path] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    rows: int = 0

    def begin(self, file: Path) -> None:
        """The rows from now on are of this file."""
        self.files.append(file)
        self.starts.append(self.rows)

    def name(self, row: int) -> str:
        """A row, by its number over the whole input, for messages. Rows of a file count from 0."""
        number = bisect.bisect_right(self.starts, row) - 1
        return f"{self.files[number]} row {row - self.starts[number]:,}"
