"""Reads the selected rows of an input in chunks, in any order."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from batchgen.errors import DataError
from batchgen.input.blocks import BEGINNING, Block, BlockCursor, BlockStart, concat_blocks
from batchgen.input.chunk import Chunk
from batchgen.input.crossing import Crossing
from batchgen.input.files import InputFile
from batchgen.input.survey import Survey
from batchgen.input.turns.turn_rows import TurnRows


class SelectedRows(Protocol):
    """What a reader needs of an `InputSource`, whose methods these are.

    Attributes:
        turns: None in a job without turns.
    """

    files: tuple[InputFile, ...]
    turns: TurnRows | None

    @property
    def crossing(self) -> Crossing: ...

    def selected_rows(self, survey: Survey) -> int: ...

    def selected(
        self, survey: Survey, columns: Sequence[str], start: BlockStart
    ) -> Iterator[Block]: ...

    def chunk(self, number: int, first: int, block: Block, columns: Sequence[str]) -> Chunk: ...


class ChunkReader:
    """Reads chunks of the selected rows by number, in any order; made by `InputSource.reader`.

    Ascending numbers are one pass over the input. Rows between them are passed over, and those before a place of the survey
    are not read at all.
    """

    def __init__(
        self, source: SelectedRows, survey: Survey, rows: int, columns: Sequence[str]
    ) -> None:
        self._source = source
        self._survey = survey
        self._rows = rows
        self._bounds: npt.NDArray[np.int64] | None = None
        if survey.turns is not None:
            factor = source.crossing.factor
            conversations = source.selected_rows(survey) * factor
            self._rows = rows = survey.part_rows(rows)
            self._bounds = survey.turns.bounds(self._rows, conversations, factor)
        self._columns = columns
        self._cursor: BlockCursor | None = None
        self._last: tuple[int, Block] | None = None
        """The last selected row that was read, and its number: the next chunk may begin with more of its product."""

    @property
    def count(self) -> int:
        """The number of chunks."""
        return (
            -(-self._survey.rows // self._rows) if self._bounds is None else len(self._bounds) - 1
        )

    def read(self, number: int) -> Chunk:
        """Chunk `number`; DataError if the files have changed since the survey."""
        crossing = self._source.crossing
        first = number * self._rows
        if self._bounds is None:
            stop = min(first + self._rows, self._survey.rows)
        else:
            first, stop = self._bounds[number : number + 2].tolist()
        block = self._selected(*crossing.base_rows(first, stop))
        block = crossing.multiply(block, first, stop)
        chunk = self._source.chunk(number, first, block, self._columns)
        turns, counts = self._source.turns, self._survey.turns
        if turns is None or counts is None:
            return chunk
        each = counts.within(first, stop, crossing.factor)
        return turns.chunk(chunk, each, number * self._rows, self._columns)

    def _selected(self, first: int, stop: int) -> Block:
        """The selected rows [first, stop)."""
        blocks = [self._last[1]] if self._last is not None and self._last[0] == first else []
        at = first + len(blocks)
        if at < stop:
            cursor = self._cursor_before(at)
            cursor.skip(at - cursor.at)
            block = cursor.take(stop - at)
            if block is None or len(block.rows) < stop - at:
                expected = self._source.selected_rows(self._survey)
                raise DataError(
                    f"{self._source.files[0].place}: has {cursor.at:,} rows; expected {expected:,}, as surveyed",
                    hint="Run again. Do not change the input during a run.",
                )
            blocks.append(block)
        joined = concat_blocks(blocks)
        if self._source.crossing.factor > 1:
            self._last = stop - 1, joined.slice(len(joined.rows) - 1, len(joined.rows))
        return joined

    def _cursor_before(self, first: int) -> BlockCursor:
        """A cursor at row `first` or before it, with as few rows between as possible."""
        starts = self._survey.starts
        at = bisect_right(starts, first, key=lambda start: start.selected) - 1
        start = starts[at] if at >= 0 else BEGINNING
        cursor = self._cursor
        if cursor is None or cursor.at > first or cursor.at < start.selected:
            blocks = self._source.selected(self._survey, self._columns, start)
            self._cursor = cursor = BlockCursor(blocks, start.selected)
        return cursor
