"""Numbers in place of texts, in their order: 12 bytes for each different text, however long.

    texts, in blocks ──ranges of the order, one at a time──> sorted hashes of the texts, and the rank of each

A comparison needs of an id only whether it is another one's, and which comes first. The texts themselves are read again, a range
of them at a time, so that memory does not grow with their length.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

TEXTS_AT_ONCE = 500_000
"""Texts of a range, about."""
_SAMPLED = 20_000
"""Texts from which the ends of the ranges are drawn, at least."""

Blocks = Callable[[], Iterator[pl.Series]]
"""The texts from the start, a block at a time; the same ones at every call."""


@dataclass(frozen=True, slots=True)
class TextOrder:
    """The ranks of different texts, from 0.

    Attributes:
        seed: of the hash; no two of the texts have the same one.
        hashes: uint64 [texts], ascending.
        ranks: uint32 [texts].
    """

    seed: int
    hashes: npt.NDArray[np.uint64]
    ranks: npt.NDArray[np.uint32]

    def encode(self, texts: pl.Series) -> pl.Series:
        """The ranks of texts, null for null and for a text that was not among those ordered."""
        empty = pl.Series(texts.name, [None] * len(texts), pl.UInt32)
        if not len(self.hashes):
            return empty
        wanted = texts.hash(self.seed).to_numpy()
        at = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        known = pl.Series((self.hashes[at] == wanted) & texts.is_not_null().to_numpy())
        ranks = pl.Series(texts.name, self.ranks[at])
        return ranks.zip_with(known, empty)


def order_texts(blocks: Blocks) -> TextOrder:
    """Order all different texts, by their bytes in UTF-8."""
    edges = _edges(blocks)
    seed = 0
    while True:
        ranges = [_range(blocks, *edge).hash(seed).to_numpy() for edge in pairwise(edges)]
        hashes = np.concatenate([np.empty(0, np.uint64), *ranges])
        order = np.argsort(hashes).astype(np.uint32)
        hashes = hashes[order]
        if (hashes[1:] != hashes[:-1]).all():
            return TextOrder(seed, hashes, order)
        seed += 1


def _edges(blocks: Blocks) -> list[str | None]:
    """The ends of the ranges, ascending; None is below or above every text."""
    rows = sum(len(block) for block in blocks())
    count = math.ceil(rows / TEXTS_AT_ONCE)
    if count < 2:
        return [None, None]
    step = max(1, rows // _SAMPLED)
    drawn = pl.concat([block.gather_every(step) for block in blocks()]).drop_nulls().unique().sort()
    inner = [drawn[len(drawn) * n // count] for n in range(1, count)] if len(drawn) else []
    return [None, *dict.fromkeys(inner), None]


def _range(blocks: Blocks, low: str | None, high: str | None) -> pl.Series:
    """The different texts from `low` to below `high`, sorted."""
    found = pl.Series("text", [], pl.String)
    for block in blocks():
        texts = pl.col("text").is_not_null()
        if low is not None:
            texts &= pl.col("text") >= low
        if high is not None:
            texts &= pl.col("text") < high
        new = pl.DataFrame({"text": block}).filter(texts)["text"].unique()
        found = pl.concat([found, new])
        if len(found) > 2 * TEXTS_AT_ONCE:
            found = found.unique()
    return found.unique().sort()
