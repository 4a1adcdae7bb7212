"""Selection of input rows: the interface of `filter`, and the random draw of `sample`.

The draw depends only on row numbers and the seed, not on batches.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Condition(Protocol):
    """A condition on rows, such as `RowFilter`."""

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]: ...


def sample_keys(rows: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """A pseudorandom uint64 for each row number. `sample` draws the rows with the smallest keys.

    The finalizer of splitmix64 (Steele, Lea and Flood 2014) over row number and seed: a bijection, so no key repeats.
    """
    start = _mixed(np.array([seed], dtype=np.uint64))
    return _mixed((rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + start)


def _mixed(key: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


class BottomK:
    """The `size` smallest of all added keys and the rows that have them, in memory for about `size` of both."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept = np.empty(0, dtype=np.uint64)
        self._rows = np.empty(0, dtype=np.int64)

    def add(self, keys: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> None:
        if len(self._kept) == self._size:
            smaller = keys < self._kept.max()
            keys, rows = keys[smaller], rows[smaller]
        kept, rows = np.concatenate([self._kept, keys]), np.concatenate([self._rows, rows])
        if len(kept) > self._size:
            smallest = np.argpartition(kept, self._size - 1)[: self._size]
            kept, rows = kept[smallest], rows[smallest]
        self._kept, self._rows = kept, rows

    def rows(self) -> npt.NDArray[np.int64]:
        """The rows with the smallest keys, in order."""
        return np.sort(self._rows)

    def threshold(self) -> int | None:
        """The largest of the smallest keys; None if there were fewer keys than `size`."""
        return int(self._kept.max()) if len(self._kept) == self._size else None
