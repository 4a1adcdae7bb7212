"""Conversations: a row becomes a row for each of its turns, with the number of the turn in the column `turn`.

    rows that `cross` has multiplied ──x turns──> 17 becomes 17/1, 17/2, 17/3; 18 becomes 18/1; ...

All turns of a row are in one part: a turn is asked after the answers to those before it. Parts then have up to `part_rows`
rows; `TurnCounts` finds which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.arrow.list_cell import is_user_message, list_items
from batchgen.arrow.nested_column import split_path, type_at, value_at
from batchgen.errors import JobKeyError
from batchgen.input.blocks import Block, object_array
from batchgen.input.chunk import Chunk
from batchgen.input.ids import check_column
from batchgen.input.turns.turn_counts import Counts, TurnCounts
from batchgen.job.spec import Job
from batchgen.job.turn_columns import RECORDED, TURN


@dataclass(frozen=True)
class TurnRows:
    """How the rows of a job become turns.

    Attributes:
        key: of the job, for messages.
        count: turns of every row; 0 if the column decides it.
        column: a list of messages; empty for templates.
        per_turn: new columns by name, and the column whose list has their values.
        is_chat: whether the messages of `column` have roles: those of the user are the turns, and those of the assistant
            are recorded answers.
    """

    key: str
    count: int
    column: str
    per_turn: Mapping[str, str]
    is_chat: bool

    @classmethod
    def of(cls, job: Job) -> "TurnRows | None":
        """None for a job without turns."""
        columns, prompt = job.input.columns, job.prompt
        per_turn = columns.per_turn or {}
        if prompt.turns is not None:
            return cls("prompt.turns", len(prompt.turns), "", per_turn, is_chat=False)
        if columns.turns is not None:
            return cls("input.columns.turns", 0, columns.turns, per_turn, is_chat=False)
        if prompt.replay is not None and columns.messages is not None:
            return cls("prompt.replay", 0, columns.messages, per_turn, is_chat=True)
        return None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The new columns."""
        return (TURN, *([RECORDED] if self.is_chat else []), *self.per_turn)

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise JobKeyError if the input has a column of the same name, or lacks one that is read."""
        for name in self.names:
            if name in columns:
                raise JobKeyError(
                    f"input.columns.per_turn.{name}" if name in self.per_turn else self.key,
                    f"the input has a column {name!r} already, which conversations add",
                    hint="Rename it in the input.",
                )
        for name, source in self.per_turn.items():
            check_column(f"input.columns.per_turn.{name}", source, columns)

    def schema(self, rows: pa.Schema) -> pa.Schema:
        """The schema with the new columns."""
        self.check_columns(rows.names)
        new = [pa.field(TURN, pa.int32())]
        new += [pa.field(RECORDED, pa.string())] if self.is_chat else []
        new += [pa.field(n, _item_type(rows, source)) for n, source in self.per_turn.items()]
        return pa.schema([*rows, *new])

    def base_schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema without the new columns."""
        return pa.schema([one for one in schema if one.name not in self.names])

    def counts(self, block: Block) -> Counts:
        """The turns of each row of a block; 1 for a row whose cell cannot be read."""
        column, _ = split_path(self.column, block.table.column_names)
        fields = ({column: cell} for cell in block.cells(column))
        cells = (list_items(value_at(one, self.column)) or () for one in fields)
        counted = (sum(map(is_user_message, c)) if self.is_chat else len(c) for c in cells)
        return np.fromiter((max(1, n) for n in counted), np.int64, len(block.rows))

    def chunk(self, rows: Chunk, counts: Counts, first: int, columns: Sequence[str]) -> Chunk:
        """The turns of a chunk's rows.

        Args:
            rows: without the new columns.
            counts: the turns of each row.
            first: index of the first turn.
            columns: those that `Chunk.rows` returns.
        """
        table = self._table(rows.table, counts)
        positions, turns = _positions(counts)
        cells = {
            name: object_array(table.column(name).to_pylist())
            if name in self.names
            else rows.columns[name][positions]
            for name in columns
        }
        pairs = list(zip(positions.tolist(), turns.tolist(), strict=True))
        ids = tuple(f"{rows.ids[at]}/{turn}" for at, turn in pairs)
        failures = {
            index: rows.failures[rows.first + at]
            for index, (at, _) in enumerate(pairs, first)
            if rows.first + at in rows.failures
        }
        return Chunk(rows.number, first, table, ids, failures, cells, rows.redacted)

    def _table(self, rows: pa.Table, counts: Counts) -> pa.Table:
        positions, turns = _positions(counts)
        table = rows.take(pa.array(positions))
        schema = self.schema(rows.schema)
        new: dict[str, list[object]] = {TURN: turns.tolist()}
        if self.is_chat:
            column, _ = split_path(self.column, rows.column_names)
            cells = rows.column(column).to_pylist()
            recorded = [_recorded(value_at({column: cell}, self.column)) for cell in cells]
            new[RECORDED] = _picked(recorded, positions, turns)
        for name, source in self.per_turn.items():
            items = [list_items(cell) or () for cell in rows.column(source).to_pylist()]
            new[name] = _picked(items, positions, turns)
        for name, values in new.items():
            type_ = schema.field(name).type
            texts = pa.types.is_string(type_)
            cells = [v if v is None or not texts else _text(v) for v in values]
            table = table.append_column(pa.field(name, type_), pa.array(cells, type_))
        return table


class TurnSurvey:
    """Counts the turns of the rows that pass the filter, eight bytes a row."""

    def __init__(self, turns: TurnRows | None) -> None:
        self._turns = turns
        self._counts: list[Counts] = []
        self._rows: list[npt.NDArray[np.int64]] = []

    def add(self, block: Block) -> None:
        if self._turns is not None and not self._turns.count:
            self._counts.append(self._turns.counts(block))
            self._rows.append(block.rows)

    def finish(self, sample: npt.NDArray[np.int64] | None, rows: int) -> TurnCounts | None:
        """The turns of the selected rows: the first `rows` of those with a number in `sample`, if there is one."""
        if self._turns is None:
            return None
        if self._turns.count:
            return TurnCounts(self._turns.count)
        counts = np.concatenate(self._counts)
        if sample is not None:
            counts = counts[np.isin(np.concatenate(self._rows), sample)]
        return TurnCounts.of(counts[:rows])


def _positions(counts: Counts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each turn, the position of its row, and its number from 1."""
    positions = np.repeat(np.arange(len(counts)), counts)
    before = np.cumsum(counts) - counts
    return positions, np.arange(len(positions)) - before[positions] + 1


def _picked(
    lists: Sequence[Sequence[object]],
    positions: npt.NDArray[np.int64],
    turns: npt.NDArray[np.int64],
) -> list[object]:
    """For each turn, the item of its row's list; None after its end."""
    pairs = zip(positions.tolist(), turns.tolist(), strict=True)
    return [lists[at][turn - 1] if turn <= len(lists[at]) else None for at, turn in pairs]


def _recorded(value: object) -> list[object]:
    """For each message of the user, the assistant's message that follows it; None where there is none."""
    found: list[object] = []
    for item in list_items(value) or ():
        if is_user_message(item):
            found.append(None)
        elif found and isinstance(item, Mapping) and found[-1] is None:
            role = item.get("role", item.get("from"))
            text = item.get("content", item.get("value"))
            is_answer = role in ("assistant", "gpt", "chatgpt") and isinstance(text, str)
            found[-1] = text if is_answer else None
    return found


def _item_type(schema: pa.Schema, column: str) -> pa.DataType:
    type_ = type_at(schema, column)
    is_list = type_ is not None and (pa.types.is_list(type_) or pa.types.is_large_list(type_))
    return type_.value_type if type_ is not None and is_list else pa.string()


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
