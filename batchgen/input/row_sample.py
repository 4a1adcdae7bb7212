"""Which rows of the input are used: what a condition is, and `sample` as a draw by row number.

The draw does not depend on how the rows come in batches. Knows nothing of files.
"""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Condition(Protocol):
    """Whether rows are used; `condition.RowFilter` is one."""

    def mask(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Whether each row meets the condition."""


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


class BottomK:
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
