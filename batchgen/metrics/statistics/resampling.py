"""Sums of row statistics, and of resampled ones, a block of rows at a time: the rows may have any form in memory."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 1 << 14
"""Rows that are float64 at one time."""
_TOGETHER = 8
"""Replicates over many rows that are summed in one pass over them."""
_BLOCK_BYTES = 1 << 20
"""Memory for the weights of replicates over few rows: small enough for the processor's cache."""
_ONE = np.uint8(1)

_Floats = npt.NDArray[np.float64]


class RowStatistics(Protocol):
    """Float64 [rows, k] where a slice of rows is read; an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> _Floats: ...


def blocks_of(table: RowStatistics) -> Iterator[_Floats]:
    """The rows in order, `BLOCK_ROWS` at a time; at least one block."""
    for start in range(0, max(1, len(table)), BLOCK_ROWS):
        yield table[start : start + BLOCK_ROWS]


def sum_rows(table: RowStatistics) -> _Floats:
    """The sum over all rows: float64 [k]."""
    total: _Floats = np.sum([block.sum(axis=0) for block in blocks_of(table)], axis=0)
    return total


def resample(table: RowStatistics, *, replicates: int, seed: int) -> _Floats:
    """The total of each replicate: float64 [replicates, k].

    A replicate draws as many rows as there are, with replacement: its weights are multinomial. Which ones are drawn depends
    on the seed and the number of rows alone, so that two runs can be resampled alike.
    """
    totals = []
    for weights in draw_weights(len(table), replicates=replicates, seed=seed):
        starts = range(0, len(table), BLOCK_ROWS)
        parts = (weights[:, start : start + BLOCK_ROWS].astype(np.float64) for start in starts)
        pairs = zip(parts, blocks_of(table), strict=True)
        totals.append(sum(part @ block for part, block in pairs))
    return np.concatenate(totals)


def draw_weights(rows: int, *, replicates: int, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    """How often each replicate draws each row, some replicates at a time: uint8 [together, rows]; see `resample`."""
    generator = np.random.default_rng(seed)
    together = max(_TOGETHER, _BLOCK_BYTES // (16 * rows))
    for first in range(0, replicates, together):
        yield _draw(generator, min(together, replicates - first), rows)


def _draw(generator: np.random.Generator, count: int, rows: int) -> npt.NDArray[np.uint8]:
    """How often each replicate draws each row: uint8 [count, rows]. None draws a row 256 times: that has odds of 1e-507."""
    weights = np.zeros((count, rows), np.uint8)
    for replicate in weights:
        for start in range(0, rows, BLOCK_ROWS):
            drawn = generator.integers(0, rows, size=min(BLOCK_ROWS, rows - start))
            np.add.at(replicate, drawn, _ONE)
    return weights
