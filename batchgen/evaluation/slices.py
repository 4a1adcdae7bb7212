"""The slices that a row belongs to: by a column's value, or by the range of its number.

Such as `lang=zh`, `lang=null`, `output_tokens=64 to 256`, `output_tokens=256 and up`.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.nested_column import column_at
from batchgen.arrow.values import key_texts
from batchgen.evaluation.aggregate import Mask
from batchgen.job.evaluate import Bins

MAX_SLICE_VALUES = 200
"""Values of one column with a slice each; all others share one, so that a column of texts does not make millions."""
OTHER_VALUES = "(others)"


def slice_column(cut: str | Bins) -> str:
    """The column of a cut."""
    return cut if isinstance(cut, str) else cut.column


class Slicer:
    """Slices tables by the columns of a job. Stateful: the first values of a column get the slices."""

    def __init__(self, cuts: Sequence[str | Bins]) -> None:
        self._cuts = cuts
        self._seen: dict[str, set[str]] = {cut: set() for cut in cuts if isinstance(cut, str)}

    def masks(self, table: pa.Table) -> dict[str, Mask]:
        """The rows of each slice: bool [rows] by name. Every slice has rows."""
        masks: dict[str, Mask] = {}
        for names in self.names(table):
            encoded = names.dictionary_encode().combine_chunks()
            codes = encoded.indices.to_numpy(zero_copy_only=False)
            masks |= {name: codes == k for k, name in enumerate(encoded.dictionary.to_pylist())}
        return masks

    def names(self, table: pa.Table) -> list[pa.ChunkedArray]:
        """For each cut, the slice of each row: text [rows]."""
        return [
            self._ranges(table, cut) if isinstance(cut, Bins) else self._values(table, cut)
            for cut in self._cuts
        ]

    def _values(self, table: pa.Table, column: str) -> pa.ChunkedArray:
        texts = pc.fill_null(key_texts(column_at(table, column)), "null")
        seen = self._seen[column]
        for value in pc.unique(texts).to_pylist():
            if len(seen) < MAX_SLICE_VALUES:
                seen.add(value)
        own = pc.is_in(texts, pa.array(sorted(seen), pa.string()))
        return pc.binary_join_element_wise(f"{column}=", pc.if_else(own, texts, OTHER_VALUES), "")

    def _ranges(self, table: pa.Table, cut: Bins) -> pa.ChunkedArray:
        numbers = _as_numbers(column_at(table, cut.column))
        between = [f"{a:g} to {b:g}" for a, b in itertools.pairwise(cut.bins)]
        ranges = (f"below {cut.bins[0]:g}", *between, f"{cut.bins[-1]:g} and up", "null")
        names = np.array([f"{cut.column}={name}" for name in ranges], object)
        chosen = np.where(np.isnan(numbers), len(ranges) - 1, np.digitize(numbers, cut.bins))
        return pa.chunked_array([pa.array(names[chosen], pa.string())])


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """float64 [rows]; NaN for a value that is not a number."""
    if pa.types.is_string(column.type):
        return np.array([_number(text) for text in column.to_pylist()], np.float64)
    numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, np.float64)


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")
