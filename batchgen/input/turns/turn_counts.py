"""The number of turns of each selected row, and which of them are in which part."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TurnCounts:
    """How many turns rows have: `each`, or, if it is 0, those of `of_rows`, one for each selected row before `cross`."""

    each: int
    of_rows: Counts = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, counts: Counts) -> "TurnCounts":
        equal = len(counts) and (counts == counts[0]).all()
        return cls(int(counts[0])) if equal else cls(0, counts)

    def total(self, rows: int, factor: int) -> int:
        """The number of turns of all `rows` selected rows, each multiplied by `factor`."""
        return factor * (rows * self.each or int(self.of_rows.sum()))

    def source_rows(self, turns: int, factor: int) -> int:
        """The number of rows, multiplied by `factor`, that have so many turns together: the inverse of `total`."""
        return turns // self.each if self.each else len(self.of_rows) * factor

    def within(self, first: int, stop: int, factor: int) -> Counts:
        """Those of rows [first, stop), multiplied by `factor`."""
        rows = np.arange(first, stop) // factor
        return self.of_rows[rows] if not self.each else np.full(len(rows), self.each, np.int64)

    def part_rows(self, wanted: int) -> int:
        """The rows that a part has room for, at least those of the longest conversation."""
        if self.each:
            return self.each * max(1, wanted // self.each)
        return max(wanted, int(self.of_rows.max()))

    def bounds(self, part_rows: int, rows: int, factor: int) -> npt.NDArray[np.int64]:
        """The first row of each part, and the number of all: int64 [parts + 1]; rows are multiplied by `factor`."""
        if self.each:
            starts = np.arange(0, rows, part_rows // self.each)
            return np.append(starts, rows)
        ends = np.cumsum(np.repeat(self.of_rows, factor))
        found = [0]
        while found[-1] < rows:
            before = ends[found[-1] - 1] if found[-1] else 0
            found.append(int(np.searchsorted(ends, before + part_rows, side="right")))
        return np.array(found)

    def part_sizes(self, part_rows: int, factor: int) -> tuple[int, ...] | None:
        """The rows of each part; None if all but the last are full."""
        if self.each:
            return None
        rows = len(self.of_rows) * factor
        bounds = self.bounds(part_rows, rows, factor)
        ends = np.concatenate([[0], np.cumsum(np.repeat(self.of_rows, factor))])
        return tuple(np.diff(ends[bounds]).tolist())
