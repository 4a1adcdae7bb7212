"""The input of a job as a stream of chunks of rows.

    source = open_source(job.input, seed=job.run.seed)      reads only heads and footers
    survey = source.survey()                                 one pass: counts rows, finds types, checks ids, hashes files
    for chunk in source.chunks(survey, rows=2048): ...       another pass, yields the rows

The cells that a row's prompt, id and settings see are those of its own line: other rows decide only the types of the published
columns. A row has two numbers: one in the whole input, from 0, which is its id if there is no id column; and `Row.index`, its
number among the rows that `filter`, `sample` and `limit`, in that order, select, each multiplied by `cross` (`crossing.py`).
Memory does not grow with the input, except for eight bytes a row during the survey, for the check of ids.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from batchgen.errors import DataError
from batchgen.input.blocks import (
    BEGINNING,
    Block,
    BlockStart,
    RowLocations,
    object_array,
)
from batchgen.input.chunk import Chunk
from batchgen.input.chunk_reader import ChunkReader
from batchgen.input.crossing import Crossing
from batchgen.input.files import InputFile, find_files
from batchgen.input.ids import (
    IdCheck,
    RowIds,
    find_id_column,
    id_texts,
    original_id_texts,
)
from batchgen.input.input_table import InputTable, open_table
from batchgen.input.redacted_cells import CellRedaction
from batchgen.input.row_sample import BottomK, Condition, sample_keys
from batchgen.input.survey import StartIndex, Survey, SurveyedFile, check_types, hash_file
from batchgen.input.turns.turn_counts import TurnCounts
from batchgen.input.turns.turn_rows import TurnRows, TurnSurvey
from batchgen.job.spec import Input

__all__ = ["Chunk", "InputFile", "InputSource", "Survey", "SurveyedFile", "open_source"]


def open_source(
    spec: Input,
    *,
    seed: int,
    redaction: CellRedaction | None = None,
    turns: TurnRows | None = None,
) -> "InputSource":
    """Find the input files and read format, encoding and columns.

    Args:
        spec: `input` of the job; paths are absolute.
        seed: the seed of `sample`.
        redaction: applied to chunks; `filter` sees the original cells.
        turns: how rows become turns of conversations.

    Raises:
        DataError: no files, an unreadable start of a file, or a column of the job that is missing.
    """
    table = open_table(find_files(spec), spec)
    return InputSource(table, spec, seed=seed, redaction=redaction, turns=turns)


class InputSource:
    """The rows of the input files; made by `open_source`.

    `columns` includes those of hive folders and of `cross`. For JSONL it has those of the first lines; the survey's schema has
    all.
    """

    def __init__(
        self,
        table: InputTable,
        spec: Input,
        *,
        seed: int,
        redaction: CellRedaction | None,
        turns: TurnRows | None,
    ) -> None:
        self._redaction = redaction
        self.turns = turns
        self._table = table
        self._spec = spec
        self._seed = seed
        self.files = table.files
        self._crossing = Crossing.of(spec, seed)
        self._crossing.check_columns(table.columns)
        self.columns = (*table.columns, *self._crossing.names)
        if turns is not None:
            turns.check_columns(self.columns)
            self.columns += turns.names
        self.id_column = find_id_column(spec.columns.id, table.columns)
        if table.known_schema is not None:
            self._filter(table.known_schema)

    def describe(self) -> str:
        return self._table.describe()

    def survey(self, columns: Sequence[str] = ()) -> Survey:
        """Read everything once (JSONL twice, for its types), count the selected rows and check the ids.

        `columns` are those of which inexact cells are found.

        Ids must be present and unique among all rows that pass `filter`, even if `sample` or `limit` drops them.

        Raises:
            DataError: the input has an error, or no row is selected.
        """
        schema = self._table.schema()
        crossed = self._crossing.schema(schema)
        check_types(crossed, self._spec.columns)
        crossed = self.turns.schema(crossed) if self.turns else crossed
        counted = TurnSurvey(self.turns)
        files = tuple(map(hash_file, self.files))
        smallest = None if self._spec.sample is None else BottomK(self._spec.sample)
        locations = RowLocations()
        ids = None if self.id_column is None else IdCheck(self.id_column, locations.row_label)
        kept, inexact, starts = 0, set[str](), StartIndex()
        for block in self._blocks(schema, locations, columns):
            starts.add(block.start, kept)
            kept += len(block.rows)
            inexact |= block.originals.keys() & {*columns}
            if ids is not None:
                ids.add(self._ids(block))
            counted.add(block)
            if smallest is not None:
                smallest.add(sample_keys(block.rows, self._seed), block.rows)
        if ids is not None:
            ids.finish(lambda: map(self._ids, self._blocks(schema, RowLocations())))
        if not kept:
            raise self._no_rows(locations.rows)
        rows = min(kept, self._spec.sample or kept, self._spec.limit or kept)
        key = None if smallest is None else smallest.threshold()
        drawn = smallest.rows() if smallest is not None and key is not None else None
        turns = counted.finish(drawn, rows)
        rows = (turns or TurnCounts(1)).total(rows, self._crossing.factor)
        return Survey(rows, crossed, files, key, frozenset(inexact), starts.finish(drawn), turns)

    def chunks(
        self,
        survey: Survey,
        *,
        rows: int,
        columns: Sequence[str] = (),
        skip: Container[int] = (),
    ) -> Iterator[Chunk]:
        """Yield the selected rows in chunks: chunk k has the rows with index [k * rows, (k + 1) * rows).

        Args:
            survey: of the same files, possibly by another process.
            rows: rows of every chunk except the last.
            columns: those that `Chunk.rows` returns.
            skip: numbers of the chunks to leave out.

        Raises:
            DataError: the files have changed since the survey.
        """
        reader = self.reader(survey, rows=rows, columns=columns)
        for number in range(reader.count):
            if number not in skip:
                yield reader.read(number)

    def reader(self, survey: Survey, *, rows: int, columns: Sequence[str] = ()) -> ChunkReader:
        """What reads single chunks by number; the arguments are those of `chunks`.

        Raises:
            DataError: the files have changed since the survey.
        """
        before = [(file.path, file.size, file.modified_ns) for file in survey.files]
        if before != [(file.path, file.size, file.modified_ns) for file in self.files]:
            raise DataError(
                f"{self.files[0].place}: the input changed after it was surveyed",
                hint="Run again. Do not change the input during a run.",
            )
        return ChunkReader(self, survey, rows, columns)

    def _blocks(
        self,
        schema: pa.Schema,
        locations: RowLocations,
        columns: Sequence[str] = (),
        start: BlockStart = BEGINNING,
    ) -> Iterator[Block]:
        """The rows from a place on that pass the filter, with the original cells of the id column and of `columns`."""
        row_filter = self._filter(schema)
        wanted = {*columns, *([self.id_column] if self.id_column is not None else [])}
        wanted -= {*self._crossing.names, *(self.turns.names if self.turns else ())}
        locations.rows = start.row
        position, is_first = start.position, start.position is None
        for number in range(start.file, len(self.files)):
            locations.start_file(self.files[number].label)
            for batch in self._table.batches(schema, number, wanted, position):
                place = BlockStart(number, batch.position, locations.rows)
                known = is_first or batch.position is not None
                stop = locations.rows + batch.table.num_rows
                originals = {name: object_array(v) for name, v in batch.originals.items()}
                numbers = np.arange(locations.rows, stop)
                block = Block(batch.table, numbers, batch.failures, originals)
                locations.rows, is_first = stop, False
                if row_filter is not None:
                    block = block.where(row_filter.mask(batch.table))
                yield replace(block, start=place if known else None)
            position, is_first = None, True

    def selected(
        self, survey: Survey, columns: Sequence[str], start: BlockStart
    ) -> Iterator[Block]:
        """The rows from a place of the survey on that pass filter, sample and limit, not multiplied yet."""
        left = self.selected_rows(survey) - start.selected
        schema = self._crossing.base_schema(survey.schema)
        if self.turns is not None:
            schema = self.turns.base_schema(schema)
        for block in self._blocks(schema, RowLocations(), columns, start):
            if survey.sample_key is not None:
                keys = sample_keys(block.rows, self._seed)
                block = block.where(keys <= np.uint64(survey.sample_key))
            yield block.slice(0, left)
            left -= len(block.rows)
            if left <= 0:
                return

    def _filter(self, schema: pa.Schema) -> Condition | None:
        if self._spec.filter is None:
            return None
        from batchgen.arrow.row_filter import RowFilter

        return RowFilter(self._spec.filter, schema)

    def _ids(self, block: Block) -> RowIds:
        name = self.id_column
        if name is None:
            return RowIds(pa.array(block.rows).cast(pa.string()), block.rows)
        column = block.table.select([name])
        if name in block.originals:
            texts = original_id_texts(block.originals[name].tolist(), column.schema.field(name))
            column = pa.table({name: texts})
        if self._redaction is not None:
            column = self._redaction.apply_to_ids(column)
        return RowIds(id_texts(column.column(0), name), block.rows)

    def chunk(self, number: int, first: int, block: Block, columns: Sequence[str]) -> Chunk:
        """The chunk of the rows of a block of the product, from `first` on: with drawn columns, and redacted."""
        failures = {first + position: failure for position, failure in block.failures.items()}
        ids = self._crossing.ids(self._ids(block).texts.to_pylist(), first)
        block = self._crossing.draw(block, ids)
        own = [name for name in columns if self.turns is None or name not in self.turns.names]
        if self._redaction is None:
            cells = {name: block.cells(name) for name in own}
            return Chunk(number, first, block.table, ids, failures, cells)
        fields = block.table.schema
        redacted = self._redaction.apply(block.table)
        originals = {
            name: self._redaction.apply_to_cells(cells, fields.field(name))
            for name, cells in block.originals.items()
        }
        block = replace(block, table=redacted.table, originals=originals)
        cells = {name: block.cells(name) for name in own}
        return Chunk(number, first, block.table, ids, failures, cells, redacted.counts)

    def selected_rows(self, survey: Survey) -> int:
        """The rows that filter, sample and limit select."""
        factor = self._crossing.factor
        rows = (
            survey.rows if survey.turns is None else survey.turns.source_rows(survey.rows, factor)
        )
        return rows // factor

    def part_sizes(self, survey: Survey, part_rows: int) -> Sequence[int] | None:
        """The rows of each part; None if all but the last have `part_rows`."""
        return survey.turns.part_sizes(part_rows, self._crossing.factor) if survey.turns else None

    @property
    def crossing(self) -> Crossing:
        """What multiplies the rows."""
        return self._crossing

    def _no_rows(self, rows: int) -> DataError:
        if rows:
            return DataError(
                f"input.filter: none of the {rows:,} rows meets {self._spec.filter!r}",
                hint="Check the values of these columns. Text must match exactly.",
            )
        names = ", ".join(file.label for file in self.files[:3])
        return DataError(f"{names}: no rows", hint="Check that the input is complete.")
