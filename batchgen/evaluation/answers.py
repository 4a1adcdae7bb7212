"""From a table of responses to the `Answer`s that metrics score. The table is that of a run or of any file."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.nested_column import column_at
from batchgen.arrow.values import key_texts, python_values
from batchgen.decoding.reasoning import without_reasoning
from batchgen.errors import DataError
from batchgen.job.evaluate import Reasoning
from batchgen.metrics.base import Answer
from batchgen.metrics.references import read_references

Tables = Callable[[], Iterator[pa.Table]]
"""Reads the answers from the start. The answers of one prompt are never in two tables."""


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """The columns of a table by their meaning; None for missing ones.

    Attributes:
        id: where it is missing, ids are row numbers from 0.
        references: each cell is in a form of `metrics/references.py`; any one of its texts is right.
    """

    response: str
    id: str | None = None
    sample: str | None = None
    messages: str | None = None
    output_tokens: str | None = None
    finish_reason: str | None = None
    prompt_hash: str | None = None
    references: tuple[str, ...] = ()
    reasoning: Reasoning = "keep"


def read_answers(table: pa.Table, origin: ColumnMap, first: int) -> list[Answer]:
    """Read the answers of a table. `first` is the number of its first row."""
    count = table.num_rows
    fields = LazyColumns(table)
    numbers = range(first, first + count)
    ids = _ids(table.column(origin.id)) if origin.id else [str(number) for number in numbers]
    samples = [_whole(v) for v in fields.column(origin.sample)] if origin.sample else [0] * count
    responses = fields.column(origin.response)
    if origin.reasoning == "drop":
        responses = [None if text is None else without_reasoning(text) for text in responses]
    prompts = _prompts(table, origin.messages)
    tokens = fields.column(origin.output_tokens) if origin.output_tokens else [None] * count
    reasons = fields.column(origin.finish_reason) if origin.finish_reason else [None] * count
    cells = [fields.column(name) for name in origin.references]
    references = [read_references([c[row] for c in cells], responses[row]) for row in range(count)]
    return [
        Answer(
            id=ids[row],
            sample=samples[row],
            response=responses[row],
            references=references[row].texts,
            integer_references=references[row].integers,
            unanswerable=references[row].unanswerable,
            readable=references[row].readable,
            prompt=prompts[row],
            fields=RowFields(fields, row),
            output_tokens=tokens[row],
            finish_reason=reasons[row],
        )
        for row in range(count)
    ]


def split_between_prompts(table: pa.Table, id_column: str | None, rows: int) -> Iterator[pa.Table]:
    """Cut a table between prompts into blocks of up to `rows` rows; more where a single prompt has more answers."""
    starts = _prompt_starts(table, id_column)
    at = 0
    while at < table.num_rows:
        end = table.num_rows
        if end - at > rows:
            later = starts[starts > at]
            near = later[later <= at + rows]
            end = int(near[-1] if len(near) else later[0] if len(later) else end)
        yield table.slice(at, end - at)
        at = end


def regroup_by_prompt(tables: Iterable[pa.Table], id_column: str | None) -> Iterator[pa.Table]:
    """Yield the same rows in tables that no prompt spans, provided that its answers are contiguous."""
    kept: pa.Table | None = None
    for table in tables:
        joined = table if kept is None else pa.concat_tables([kept, table])
        last = int(_prompt_starts(joined, id_column)[-1]) if joined.num_rows else 0
        if last:
            yield joined.slice(0, last)
        kept = joined.slice(last)
    if kept is not None and kept.num_rows:
        yield kept


def check_grouped_by_prompt(
    tables: Iterable[pa.Table], id_column: str | None
) -> Iterator[pa.Table]:
    """Yield the same tables, none of which a prompt spans; DataError at the end if an id occurs again after other ids."""
    hashes, positions, rows = array("Q"), array("Q"), 0
    for table in tables:
        yield table
        if id_column is not None:
            starts = _prompt_starts(table, id_column)
            ids = pl.Series(key_texts(table.column(id_column).take(pa.array(starts))))
            hashes.frombytes(ids.hash().to_numpy().tobytes())
            positions.frombytes((starts + rows).astype(np.uint64).tobytes())
        rows += table.num_rows
    ids_seen = np.frombuffer(hashes, np.uint64)
    order = np.argsort(ids_seen, kind="stable")
    again = np.flatnonzero(ids_seen[order][1:] == ids_seen[order][:-1])
    if len(again):
        first, later = min(sorted((positions[order[k]], positions[order[k + 1]])) for k in again)
        raise DataError(
            f"column {id_column!r}: rows {first:,} and {later:,} (from 0) have the same id, but rows between them do not",
            hint="Sort the file by its ids, so that the answers to one prompt are adjacent. If the column does not "
            "identify prompts, rename it.",
        )


def _prompt_starts(table: pa.Table, id_column: str | None) -> npt.NDArray[np.int64]:
    """The first row of each prompt: int64, ascending from 0."""
    if id_column is None:
        return np.arange(table.num_rows)
    codes = table.column(id_column).dictionary_encode().combine_chunks().indices
    numbers = codes.to_numpy(zero_copy_only=False)
    changes = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
    return np.concatenate([[0], changes]).astype(np.int64)


class LazyColumns:
    """A table's columns as Python values, each converted on first use."""

    def __init__(self, table: pa.Table) -> None:
        self.names: Sequence[str] = table.column_names
        self._table = table
        self._values: dict[str, list[Any]] = {}

    def column(self, name: str) -> list[Any]:
        if name not in self._values:
            self._values[name] = python_values(column_at(self._table, name))
        return self._values[name]


class RowFields(Mapping[str, object]):
    """One row of `LazyColumns`."""

    __slots__ = ("_fields", "_row")

    def __init__(self, fields: LazyColumns, row: int) -> None:
        self._fields = fields
        self._row = row

    def __getitem__(self, name: str) -> object:
        return self._fields.column(name)[self._row]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields.names)

    def __len__(self) -> int:
        return len(self._fields.names)


def _ids(column: pa.ChunkedArray) -> list[str]:
    texts: list[str] = pc.fill_null(key_texts(column), "null").to_pylist()
    return texts


def _whole(value: object) -> int:
    """A sample's number, which is text in CSV; 0 where it is not a number."""
    text = str(value)
    return int(text) if text.isdecimal() else 0


def _prompts(table: pa.Table, messages: str | None) -> list[str]:
    """The contents of each row's messages, joined by line breaks."""
    if messages is None:
        return [""] * table.num_rows
    column = table.column(messages).combine_chunks()
    contents = pc.struct_field(pc.list_flatten(column), "content").cast(pa.string())
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    ends = pc.cumulative_sum(lengths.cast(pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, contents), "\n")
    texts: list[str] = pc.fill_null(joined, "").to_pylist()
    return texts
