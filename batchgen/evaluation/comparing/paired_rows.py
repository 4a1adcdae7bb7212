"""The rows that two runs have in common, with the scores of both: some dozens of bytes a row.

    keys of the base run ──KeyIndex──> position of each score of either run ──> arrays in the order of the base run

Scores are read a block at a time, into arrays that have their final size.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from batchgen.evaluation.comparing.exact_rows import ExactRows
from batchgen.metrics.statistics.intervals import Floats, Integers

Mask = npt.NDArray[np.bool_]
Ranks = npt.NDArray[np.uint32]

ROUNDING_TOLERANCE = 1e-4
"""Scores whose absolute or relative difference is at most this count as equal: in two queries a model's log-likelihoods
of one text differ by rounding, by up to 6e-5."""
_BLOCK = 1 << 16
"""Rows that have temporary arrays at one time."""


@dataclass(frozen=True, slots=True)
class AnswerKeys:
    """The answers of a run, with numbers in place of texts.

    Attributes:
        ids: uint32 [rows], ranks of the ids.
        samples: int32 [rows]; None where whole prompts are scored.
        prompts: uint64 [rows], hashes, 0 for a row without one; None if the run has none.
        clusters: uint32 [rows], ranks; None if each id is a cluster.
        slices: for each cut, the name of the slice of each row.
    """

    ids: Ranks
    samples: npt.NDArray[np.int32] | None
    prompts: npt.NDArray[np.uint64] | None = None
    clusters: Ranks | None = None
    slices: Sequence[pl.Series] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def numbers(self) -> Integers:
        """Rank of the id and sample as one number: int64 [rows]."""
        return key_numbers(self.ids, self.samples)

    def select(self, chosen: npt.NDArray[Any]) -> "AnswerKeys":
        """The rows at these positions, or where a mask is true."""
        slices = [
            names.filter(chosen) if chosen.dtype == bool else names[chosen] for names in self.slices
        ]
        return AnswerKeys(
            self.ids[chosen],
            None if self.samples is None else self.samples[chosen],
            None if self.prompts is None else self.prompts[chosen],
            None if self.clusters is None else self.clusters[chosen],
            slices,
        )

    def put(self, start: int, block: "AnswerKeys") -> None:
        """Replace the rows from `start` on; the slices stay as they are."""
        rows = slice(start, start + len(block))
        self.ids[rows] = block.ids
        if self.samples is not None and block.samples is not None:
            self.samples[rows] = block.samples
        if self.prompts is not None and block.prompts is not None:
            self.prompts[rows] = block.prompts
        if self.clusters is not None and block.clusters is not None:
            self.clusters[rows] = block.clusters

    def first_of_each_id(self) -> "AnswerKeys":
        """The first row of each id, in order, without samples."""
        index = index_keys(self.ids.astype(np.int64))
        first = np.append(True, index.keys[1:] != index.keys[:-1])[: len(self)]
        return replace(self.select(np.sort(index.rows[first])), samples=None)


def join_keys(blocks: Iterator[AnswerKeys], rows: int) -> AnswerKeys:
    """The rows of some blocks, at least one, in arrays of their final size."""
    first = next(blocks)
    joined = AnswerKeys(
        np.empty(rows, np.uint32),
        None if first.samples is None else np.empty(rows, np.int32),
        None if first.prompts is None else np.empty(rows, np.uint64),
        None if first.clusters is None else np.empty(rows, np.uint32),
    )
    slices, start = [], 0
    for block in chain([first], blocks):
        joined.put(start, block)
        slices.append(block.slices)
        start += len(block)
    return replace(joined, slices=[pl.concat(names) for names in zip(*slices, strict=True)])


def key_numbers(ids: Ranks, samples: npt.NDArray[np.int32] | None) -> Integers:
    """Rank of the id and sample as one number: int64 [rows]. Without samples, the rank."""
    numbers = ids.astype(np.int64)
    if samples is not None:
        numbers <<= 32
        numbers += samples
    return numbers


@dataclass(frozen=True, slots=True)
class KeyIndex:
    """Where keys are: 12 bytes each. A join takes several times the memory.

    Attributes:
        keys: int64 [rows], ascending.
        rows: uint32 [rows], the position of each.
    """

    keys: Integers
    rows: npt.NDArray[np.uint32]

    def find(self, wanted: Integers) -> npt.NDArray[np.int32]:
        """The position of each key, the first of several; -1 for one that is not there: int32 [wanted]."""
        found = np.full(len(wanted), -1, np.int32)
        for start in range(0, len(wanted) if len(self.keys) else 0, _BLOCK):
            block = wanted[start : start + _BLOCK]
            at = np.minimum(np.searchsorted(self.keys, block), len(self.keys) - 1)
            known = self.keys[at] == block
            found[start : start + _BLOCK][known] = self.rows[at[known]]
        return found


def index_keys(keys: Integers) -> KeyIndex:
    """Index keys: int64 [rows]."""
    order = np.argsort(keys, kind="stable").astype(np.uint32)
    return KeyIndex(keys[order], order)


@dataclass(frozen=True, slots=True)
class ScoreBlock:
    """Some scores of one metric, in any order.

    Attributes:
        ids: uint32 [n], ranks.
        samples: int32 [n]; None if whole prompts are scored.
        values: float64 [n].
        stats: float64 [n, k], row statistics; None for a metric without.
    """

    ids: Ranks
    samples: npt.NDArray[np.int32] | None
    values: Floats
    stats: Floats | None = None


@dataclass(frozen=True, slots=True)
class RowScores:
    """The scores of a run for rows in a given order.

    Attributes:
        values: float64 [rows]; arbitrary where not scored.
        scored: bool [rows]: whether the run has a score.
        stats: numbers [rows, k], row statistics; None for a metric without.
    """

    values: Floats
    scored: Mask
    stats: ExactRows | None

    def select(self, chosen: Mask) -> "RowScores":
        stats = None if self.stats is None else self.stats.select(chosen)
        return RowScores(self.values[chosen], self.scored[chosen], stats)


@dataclass(frozen=True, slots=True)
class PairedRows:
    """The rows in common that at least one run scored."""

    keys: AnswerKeys
    base: RowScores
    new: RowScores

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def both(self) -> Mask:
        """The rows that both runs scored: bool [rows]."""
        return self.base.scored & self.new.scored

    @property
    def lost(self) -> int:
        """Rows that only the base run scored."""
        return len(self) - int(self.new.scored.sum())

    @property
    def gained(self) -> int:
        """Rows that only the new run scored."""
        return len(self) - int(self.base.scored.sum())

    def select(self, chosen: Mask) -> "PairedRows":
        """The rows where a mask is true."""
        if chosen.all():
            return self
        return PairedRows(
            self.keys.select(chosen), self.base.select(chosen), self.new.select(chosen)
        )


def pair_rows(
    base: Iterable[ScoreBlock],
    new: Iterable[ScoreBlock],
    common: AnswerKeys,
    missing: float = math.nan,
) -> PairedRows:
    """Pair the scores of two runs for one metric.

    Args:
        base: the scores of the base run.
        new: the scores of the new one.
        common: the rows to pair, in order.
        missing: the value of a row that only the other run scored.
    """
    blocks = iter(new)
    first = next(blocks, None)
    of_prompts = first is None or first.samples is None
    rows = common.first_of_each_id() if of_prompts else common
    index = index_keys(rows.numbers())
    blocks = blocks if first is None else chain([first], blocks)
    now, before = (_align(scores, index, missing, of_prompts) for scores in (blocks, base))
    del index  # 12 bytes a row
    _remove_rounding(before, now)
    scored = before.scored | now.scored
    if not scored.all():  # one after the other, so that only one is in memory twice
        before = before.select(scored)
        now = now.select(scored)
        rows = rows.select(scored)
    return PairedRows(rows, before, now)


def _align(
    blocks: Iterable[ScoreBlock], index: KeyIndex, missing: float, of_prompts: bool
) -> RowScores:
    """Scores in the order of the indexed rows, `missing` where there is none; those of other rows are left out."""
    rows = len(index.keys)
    values, scored = np.full(rows, missing), np.zeros(rows, np.bool_)
    stats = None
    for block in blocks:
        at = index.find(key_numbers(block.ids, None if of_prompts else block.samples))
        known = at >= 0
        at = at[known]
        values[at], scored[at] = block.values[known], True
        if block.stats is not None:
            stats = ExactRows(rows, block.stats.shape[1]) if stats is None else stats
            stats.put(at, block.stats[known])
    return RowScores(values, scored, stats)


def _remove_rounding(base: RowScores, new: RowScores) -> None:
    """Replace new scores that differ by rounding only, in value and statistics, by the old ones."""
    for start in range(0, len(base.values), _BLOCK):
        rows = slice(start, start + _BLOCK)
        same = base.scored[rows] & new.scored[rows]
        same &= _same(base.values[rows], new.values[rows])
        if base.stats is not None and new.stats is not None:
            same &= _same(base.stats[rows], new.stats[rows]).all(axis=-1)
            at = start + np.flatnonzero(same)
            new.stats.put(at, base.stats[rows][same])
        new.values[rows][same] = base.values[rows][same]


def _same(one: Floats, other: Floats) -> Mask:
    with np.errstate(invalid="ignore"):
        return np.abs(other - one) <= ROUNDING_TOLERANCE * np.maximum(1.0, np.abs(one))
