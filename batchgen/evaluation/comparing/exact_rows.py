"""Row statistics in the smallest number format that has every one of them exactly: most are small counts.

The statistics of chrF are 18 numbers a row: 144 bytes as float64, 18 where no row counts more than 255 of anything.
"""

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.intervals import Floats

_COUNTS = (np.uint8, np.uint16, np.uint32)


class ExactRows:
    """A table of numbers [rows, k], of zeros at first; slices of it are float64."""

    def __init__(self, rows: int, width: int) -> None:
        self._table: npt.NDArray[np.generic] = np.zeros((rows, width), np.uint8)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, rows: slice, /) -> Floats:
        return np.asarray(self._table[rows], np.float64)

    @property
    def nbytes(self) -> int:
        return int(self._table.nbytes)

    def put(self, rows: npt.NDArray[np.integer], values: Floats) -> None:
        """Set the numbers of these rows: float64 [n, k]."""
        needed = np.promote_types(self._table.dtype, _format_of(values))
        if needed != self._table.dtype:
            self._table = self._table.astype(needed)
        self._table[rows] = values

    def take(self, rows: npt.NDArray[np.integer]) -> Floats:
        """The numbers of these rows: float64 [n, k]."""
        return np.asarray(self._table[rows], np.float64)

    def select(self, chosen: npt.NDArray[np.bool_]) -> "ExactRows":
        """The rows where a mask is true."""
        selected = ExactRows(0, 0)
        selected._table = self._table[chosen]
        return selected


def _format_of(values: Floats) -> npt.DTypeLike:
    """The smallest format that has all of these numbers exactly."""
    most = values.max(initial=0.0)
    if values.min(initial=0.0) >= 0 and (values == np.floor(values)).all():
        for counts in _COUNTS:
            if most <= np.iinfo(counts).max:
                return counts
    return np.float64
