"""The answers on disk as one table, for `show` and `export`: of a run at any stage, of a scored file, or of a Parquet file.

published files, staged ones, or sealed parts ── ParquetTable
answers of a running or stopped run that are in no part yet ── journal
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from batchgen.arrow.row_filter import RowFilter
from batchgen.arrow.values import key_texts
from batchgen.errors import JobKeyError, StateError, UsageError
from batchgen.inspection.status import read_saved
from batchgen.job.turn_columns import TURN
from batchgen.output.logprob_column import LOGPROBS
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import (
    PublishedRun,
    require_responses,
    responses_in,
    written_prefix,
)
from batchgen.output.schema import ANSWER_COLUMNS, answer_columns
from batchgen.output.score_tables import SCORE_PREFIX, read_facts
from batchgen.output.unfinished_run import check_manifest_exists, check_not_running, why_unfinished
from batchgen.state.identity import read_identity
from batchgen.state.open_folder import not_a_run
from batchgen.state.parts import answer_prefix
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists, is_file, is_folder

_DAMAGED = "Read the file with the program that wrote it, or write it again."
_TABLE = "Give the output folder of a run, a folder of `batchgen score`, or a Parquet file."

_ROW, _KEY = "row", "key"

NONE_WAITING = pa.table({})

Mask = Callable[[pa.Table], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Which rows of a table, and in which order.

    Attributes:
        where: an SQL condition on the columns; empty for all rows.
        row_id: only rows with this id; of a conversation, the turns of the row with this id, or the turn with this id.
        failed: only rows without an answer.
        sort: a column; empty for the order of the file. Nulls come last.
        most: the number of rows; None for all.
        random: take them at random, in the order of the file if `sort` is empty.
    """

    where: str = ""
    row_id: str | None = None
    failed: bool = False
    sort: str = ""
    descending: bool = False
    most: int | None = None
    random: bool = False

    @property
    def is_one_row(self) -> bool:
        """Whether the id is the only condition."""
        return self.row_id is not None and not (self.where or self.failed)


@dataclass(frozen=True)
class AnswerTable:
    """Rows with answers.

    Attributes:
        path: as the user gave it, for messages.
        stored: the rows in Parquet files; None if there are none yet.
        waiting: answers of an unfinished run that are in no file yet; without the columns of the input.
        prefix: the job's `output.prefix`; every answer column begins with it.
        response: the column with the responses.
        unfinished: why the run is not complete; empty if it is.
    """

    path: Path
    stored: ParquetTable | None
    waiting: pa.Table
    prefix: str = ""
    response: str = "response"
    unfinished: str = ""

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the stored rows, or of the waiting ones if no row is stored."""
        return (self.waiting if self.stored is None else self.stored).schema.remove_metadata()

    @property
    def has_answers(self) -> bool:
        """Whether batchgen generated the answers: all its answer columns exist."""
        return {self.prefix + name for name in ANSWER_COLUMNS} <= set(self.schema.names)

    @cached_property
    def score_columns(self) -> Sequence[str]:
        names = (self.prefix + SCORE_PREFIX, SCORE_PREFIX)
        return [name for name in self.schema.names if name.startswith(names)]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, the stored ones a row group at a time."""
        if self.stored is not None:
            yield from self.stored.row_groups(columns)
        if self.waiting.num_rows:
            yield self._waiting(columns)

    def select(self, selection: RowSelection) -> Sequence[int]:
        """The numbers of the chosen rows, in order; reads only the columns that decide.

        Raises:
            UsageError: a column is missing, or the condition is not one.
        """
        masks, columns = self._masks(selection)
        read = [name for name in self.schema.names if name in columns] or self.schema.names[:1]
        frames, first = [pl.DataFrame(schema={_ROW: pl.Int64})], 0
        for table in self.tables(read):
            chosen = np.ones(table.num_rows, dtype=np.bool_)
            for mask in masks:
                chosen &= mask(table)
            numbers = np.flatnonzero(chosen)
            frame = pl.DataFrame({_ROW: numbers + first})
            if selection.sort:
                values = pl.Series(_KEY, table.column(selection.sort).take(pa.array(numbers)))
                frame = frame.with_columns(values)
            frames.append(frame)
            first += table.num_rows
        rows = pl.concat(frames[1:] or frames)
        if selection.random and selection.most is not None and rows.height > selection.most:
            drawn = secrets.SystemRandom().sample(range(rows.height), selection.most)
            rows = rows[sorted(drawn)]
        if selection.sort and rows.height:
            descending = selection.descending
            rows = rows.sort(_KEY, descending=descending, nulls_last=True, maintain_order=True)
        return rows[_ROW].head(selection.most or rows.height).to_list()

    def take(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The rows with these numbers, in this order, by column name."""
        stored = 0 if self.stored is None else self.stored.num_rows
        values: dict[int, dict[str, Any]] = {}
        if self.stored is not None and (in_files := [row for row in rows if row < stored]):
            values |= zip(in_files, self.stored.take(in_files).to_pylist(), strict=True)
        if in_journal := [row for row in rows if row >= stored]:
            table = self._waiting(None).take([row - stored for row in in_journal])
            values |= zip(in_journal, table.to_pylist(), strict=True)
        return [values[row] for row in rows]

    def _waiting(self, columns: Sequence[str] | None) -> pa.Table:
        """The answers that are in no file yet, with null for the columns of the input."""
        table = self.waiting
        for field in self.schema:
            if field.name not in table.schema.names:
                table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        return table.select(self.schema.names if columns is None else list(columns))

    def _masks(self, selection: RowSelection) -> tuple[list[Mask], set[str]]:
        """What must be true for a row, and the columns that decide."""
        masks: list[Mask] = []
        columns: set[str] = set()
        if selection.where:
            try:
                row_filter = RowFilter(selection.where, self.schema, "--where")
            except JobKeyError as error:
                raise UsageError(str(error.problem.message), hint=error.problem.hint) from error
            masks.append(row_filter.mask)
            columns |= set(row_filter.columns)
        if (wanted := selection.row_id) is not None:
            name = self._existing(f"{self.prefix}id", "--row")
            has_turns = TURN in self.schema.names
            masks.append(lambda table: _has_id(table.column(name), wanted, has_turns))
            columns.add(name)
        if selection.failed:
            code = self._existing(f"{self.prefix}error_code", "--failed")
            masks.append(lambda table: pc.is_valid(table.column(code)).to_numpy())
            columns.add(code)
        if selection.sort:
            columns.add(self._existing(selection.sort, "--sort"))
        return masks, columns

    def _existing(self, name: str, option: str) -> str:
        if name not in self.schema.names:
            raise UsageError(
                f"{option}: {self.path} has no column {name!r}",
                hint=f"Its columns are {', '.join(self.schema.names)}.",
            )
        return name


def _has_id(column: pa.ChunkedArray, id_: str, has_turns: bool) -> npt.NDArray[np.bool_]:
    """Which ids are this one, or with `has_turns` this one with the number of a turn as a suffix."""
    texts = key_texts(column)
    found = pc.equal(texts, id_)
    if has_turns:
        suffixes = pc.utf8_slice_codeunits(texts, len(id_) + 1)
        turns = pc.and_(pc.starts_with(texts, f"{id_}/"), pc.utf8_is_digit(suffixes))
        found = pc.or_(found, turns)
    return np.asarray(pc.fill_null(found, fill_value=False).to_numpy(), dtype=np.bool_)


def open_answer_table(path: Path) -> AnswerTable:
    """Open the answers in a run folder, in a folder of `batchgen score`, or in a Parquet file.

    Raises:
        UsageError: it is none of these, or has no answers yet.
        StateError: a file of the run is damaged.
        ResourceError: a file cannot be read.
    """
    if is_file(path):
        if path.suffix.lower() not in (".parquet", ".pq"):
            raise UsageError(f"{path}: expected a Parquet file", hint=_TABLE)
        return _unscored(path, ParquetTable([path.absolute()], hint=_DAMAGED))
    folder = RunFolder(path.absolute())
    if exists(folder.manifest):
        run = PublishedRun(folder)
        run.check(hashes=False, only_responses=True)
        return AnswerTable(path, run.responses, NONE_WAITING, run.manifest.prefix)
    if exists(folder.run):
        return _unfinished(path, folder)
    if not is_folder(path):
        raise UsageError(f"{path} does not exist", hint=_TABLE)
    stored = responses_in(folder)
    if not stored.paths:
        raise not_a_run(path)
    return _unscored(path, stored)


def _unscored(path: Path, stored: ParquetTable) -> AnswerTable:
    """A table without a manifest; its metadata has the prefix and the response column, if batchgen wrote it."""
    facts = read_facts(stored.paths[0])
    prefix = str(facts.get("settings", {}).get("output", {}).get("prefix", ""))
    response = str(facts.get("response", f"{prefix}response"))
    return AnswerTable(path, stored, NONE_WAITING, prefix, response)


def _unfinished(path: Path, folder: RunFolder) -> AnswerTable:
    check_manifest_exists(folder)
    identity = read_identity(folder)
    if identity is None:
        raise not_a_run(path)
    why = why_unfinished(folder)
    if exists(folder.withheld):
        stored = require_responses(RunFolder(folder.staged))
        prefix = written_prefix(stored)
        return AnswerTable(path, stored, NONE_WAITING, prefix, f"{prefix}response", why.problem)
    saved = read_saved(folder, identity)
    prefix = _prefix_of(path, saved.parts, str(identity.settings["output"]["prefix"]))
    recorded = any(response.token_logprobs for response in saved.waiting)
    optional = {"logprobs": LOGPROBS} if recorded else {}
    waiting = answer_columns(saved.waiting, identity.run_id, optional)
    table = pa.table({prefix + name: column for name, column in waiting.items()})
    parts = ParquetTable(list(saved.parts)) if saved.parts else None
    if parts is None and not table.num_rows:
        check_not_running(folder)
        raise UsageError(f"{path} has no answers yet", hint=why.hint)
    return AnswerTable(path, parts, table, prefix, f"{prefix}response", why.problem)


def _prefix_of(path: Path, parts: Sequence[Path], recorded: str) -> str:
    """The prefix of the parts, or the recorded one if there are none.

    Raises:
        StateError: some parts have other columns, since a change of the columns was interrupted.
    """
    schemas = [ParquetTable([part]).schema for part in parts]
    if any(schema.names != schemas[0].names for schema in schemas):
        raise StateError(
            f"{path}: some of the saved answers have other columns than the rest",
            hint="Repeat the same `batchgen run`: it gives all of them the columns of the job.",
        )
    return answer_prefix(schemas[0]) if schemas else recorded
