"""`input.cross`: rows multiplied by lists of values, or values drawn for them; each becomes a column.

    rows that filter, sample and limit select ──x lists──> row k of the product: row k // K of them, combination k % K
                                              ──draw by seed, column and id──> one more column

The product is never held in memory: a chunk of it is made from the few rows that it needs. An id gets a suffix for each list,
such as `17/en/teacher`, which depends on the values alone.
"""

import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from batchgen.errors import JobKeyError
from batchgen.fingerprint import fingerprint
from batchgen.input.blocks import Block
from batchgen.job.cross_section import CrossValue, DrawnValues
from batchgen.job.spec import Input

_PLAIN = re.compile(r"[^\W_]([\w.+-]{0,38}[^\W_])?")
"""Values that are a suffix as they are; others are named by a hash."""
_NO_LISTS: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Crossing:
    """The columns of `input.cross`, in the order of the job; `lists` multiply rows, the last one fastest."""

    lists: Mapping[str, Sequence[CrossValue]]
    drawn: Mapping[str, DrawnValues]
    seed: int

    @classmethod
    def of(cls, spec: Input, seed: int) -> "Crossing":
        given = dict(spec.cross or {})
        lists = {name: v for name, v in given.items() if not isinstance(v, DrawnValues)}
        drawn = {name: v for name, v in given.items() if isinstance(v, DrawnValues)}
        return cls(lists, drawn, seed)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.lists, *self.drawn)

    @cached_property
    def factor(self) -> int:
        """How many rows one row becomes."""
        return math.prod(map(len, self.lists.values()))

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        values = {**self.lists, **{name: one.sample for name, one in self.drawn.items()}}
        return {name: pa.array(_same_type(of)).type for name, of in values.items()}

    @cached_property
    def _combinations(self) -> list[tuple[CrossValue, ...]]:
        return list(itertools.product(*self.lists.values()))

    @cached_property
    def _suffixes(self) -> tuple[str, ...]:
        if not self.lists:
            return _NO_LISTS
        return tuple("".join(f"/{_suffix(v)}" for v in values) for values in self._combinations)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise JobKeyError if the input has a column of the same name."""
        for name in self.names:
            if name in columns:
                raise JobKeyError(
                    f"input.cross.{name}",
                    f"the input has a column {name!r} already",
                    hint="Choose another name for the new column.",
                )

    def schema(self, rows: pa.Schema) -> pa.Schema:
        """The schema with the new columns."""
        self.check_columns(rows.names)
        return pa.schema([*rows, *(pa.field(name, type_) for name, type_ in self._types.items())])

    def base_schema(self, crossed: pa.Schema) -> pa.Schema:
        """The schema without the new columns."""
        return pa.schema([field for field in crossed if field.name not in self._types])

    def base_rows(self, first: int, stop: int) -> tuple[int, int]:
        """The selected rows, from and to, that rows [first, stop) of the product come from."""
        return first // self.factor, -(-stop // self.factor)

    def multiply(self, block: Block, first: int, stop: int) -> Block:
        """Rows [first, stop) of the product; `block` has the rows of `base_rows`. Drawn values are not in it yet."""
        if not self.lists:
            return block
        base, _ = self.base_rows(first, stop)
        numbers = np.arange(first, stop)
        positions = numbers // self.factor - base
        table = block.table.take(pa.array(positions))
        values = [self._combinations[n] for n in (numbers % self.factor).tolist()]
        for at, name in enumerate(self.lists):
            column = pa.array(_same_type([one[at] for one in values]), self._types[name])
            table = table.append_column(pa.field(name, self._types[name]), column)
        failures = {}
        if block.failures:
            failures = {
                at: block.failures[old]
                for at, old in enumerate(positions.tolist())
                if old in block.failures
            }
        originals = {name: cells[positions] for name, cells in block.originals.items()}
        return Block(table, block.rows[positions], failures, originals)

    def ids(self, texts: Sequence[str], first: int) -> tuple[str, ...]:
        """The ids of rows of the product from `first` on, from those of the rows that they come from."""
        if not self.lists:
            return tuple(texts)
        suffixes, factor = self._suffixes, self.factor
        return tuple(text + suffixes[at % factor] for at, text in enumerate(texts, first))

    def draw(self, block: Block, ids: Sequence[str]) -> Block:
        """The block with the drawn columns."""
        table = block.table
        for name, values in self.drawn.items():
            weights = values.weights or (1.0,) * len(values.sample)
            ends = list(itertools.accumulate(weights))
            key = f"{self.seed}\0{name}\0".encode()
            chosen = _same_type(values.sample)
            cells = [chosen[_drawn(key, id_, ends)] for id_ in ids]
            type_ = self._types[name]
            table = table.append_column(pa.field(name, type_), pa.array(cells, type_))
        return replace(block, table=table) if self.drawn else block


def _drawn(key: bytes, id_: str, ends: Sequence[float]) -> int:
    """The position of a value, by a hash of seed, column and id; `ends` are the cumulative weights."""
    digest = blake2b(key + id_.encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    return min(bisect_right(ends, share * ends[-1]), len(ends) - 1)


def _same_type(values: Sequence[CrossValue]) -> list[CrossValue]:
    """The values with whole numbers as floats where others are floats."""
    if any(isinstance(value, float) for value in values):
        return [float(value) for value in values]
    return list(values)


def _suffix(value: CrossValue) -> str:
    """A short text for a value, without a slash, different for each value of a list."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) else fingerprint({"value": value})[:8]
