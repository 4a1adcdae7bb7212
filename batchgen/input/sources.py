"""The input of a job as a stream of chunks of rows.

    source = open_source(job.input, seed=job.run.seed)      reads only heads and footers
    survey = source.survey()                                 one pass: counts rows, finds types, checks ids, hashes files
    for chunk in source.chunks(survey, rows=2048): ...       another pass, yields the rows

The cells that a row's prompt, id and settings see are those of its own line: other rows decide only the types of the published
columns. A row has two numbers: one in the whole input, from 0, which is its id if there is no id column; and `Row.index`, its
number among the rows that `filter`, `sample` and `limit`, in that order, select, each multiplied by `cross` (`crossing.py`).
Memory does not grow with the input, except for eight bytes a row during the survey, for the check of ids.
"""

from bisect import bisect_right
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from batchgen.errors import DataError
from batchgen.input.blocks import (
    BEGINNING,
    Block,
    BlockCursor,
    BlockStart,
    RowLocations,
    concat_blocks,
    object_array,
)
from batchgen.input.chunk import Chunk
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
from batchgen.job.spec import Input

__all__ = ["Chunk", "InputFile", "InputSource", "Survey", "SurveyedFile", "open_source"]


def open_source(spec: Input, *, seed: int, redaction: CellRedaction | None = None) -> "InputSource":
    """Find the input files and read format, encoding and columns.

    Args:
        spec: `input` of the job; paths are absolute.
        seed: the seed of `sample`.
        redaction: applied to chunks; `filter` sees the original cells.

    Raises:
        DataError: no files, an unreadable start of a file, or a column of the job that is missing.
    """
    return InputSource(open_table(find_files(spec), spec), spec, seed=seed, redaction=redaction)


class InputSource:
    """The rows of the input files; made by `open_source`.

    `columns` includes those of hive folders and of `cross`. For JSONL it has those of the first lines; the survey's schema has
    all.
    """

    def __init__(
        self, table: InputTable, spec: Input, *, seed: int, redaction: CellRedaction | None = None
    ) -> None:
        self._redaction = redaction
        self._table = table
        self._spec = spec
        self._seed = seed
        self.files = table.files
        self._crossing = Crossing.of(spec, seed)
        self._crossing.check_columns(table.columns)
        self.columns = (*table.columns, *self._crossing.names)
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
            if smallest is not None:
                smallest.add(sample_keys(block.rows, self._seed), block.rows)
        if ids is not None:
            ids.finish(lambda: map(self._ids, self._blocks(schema, RowLocations())))
        if not kept:
            raise self._no_rows(locations.rows)
        rows = min(kept, self._spec.sample or kept, self._spec.limit or kept)
        rows *= self._crossing.factor
        key = None if smallest is None else smallest.threshold()
        drawn = smallest.rows() if smallest is not None and key is not None else None
        return Survey(rows, crossed, files, key, frozenset(inexact), starts.finish(drawn))

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
        for number in range(-(-survey.rows // rows)):
            if number not in skip:
                yield reader.read(number)

    def reader(self, survey: Survey, *, rows: int, columns: Sequence[str] = ()) -> "ChunkReader":
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
        wanted -= {*self._crossing.names}
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
        left = survey.rows // self._crossing.factor - start.selected
        schema = self._crossing.base_schema(survey.schema)
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
        if self._redaction is None:
            cells = {name: block.cells(name) for name in columns}
            return Chunk(number, first, block.table, ids, failures, cells)
        fields = block.table.schema
        redacted = self._redaction.apply(block.table)
        originals = {
            name: self._redaction.apply_to_cells(cells, fields.field(name))
            for name, cells in block.originals.items()
        }
        block = replace(block, table=redacted.table, originals=originals)
        cells = {name: block.cells(name) for name in columns}
        return Chunk(number, first, block.table, ids, failures, cells, redacted.counts)

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


class ChunkReader:
    """Reads chunks of the selected rows by number, in any order; made by `InputSource.reader`.

    Ascending numbers are one pass over the input. Rows between them are passed over, and those before a place of the survey
    are not read at all.
    """

    def __init__(
        self, source: InputSource, survey: Survey, rows: int, columns: Sequence[str]
    ) -> None:
        self._source = source
        self._survey = survey
        self._rows = rows
        self._columns = columns
        self._cursor: BlockCursor | None = None
        self._last: tuple[int, Block] | None = None
        """The last selected row that was read, and its number: the next chunk may begin with more of its product."""

    def read(self, number: int) -> Chunk:
        """Chunk `number`; DataError if the files have changed since the survey."""
        crossing = self._source.crossing
        first = number * self._rows
        stop = min(first + self._rows, self._survey.rows)
        block = self._selected(*crossing.base_rows(first, stop))
        block = crossing.multiply(block, first, stop)
        return self._source.chunk(number, first, block, self._columns)

    def _selected(self, first: int, stop: int) -> Block:
        """The selected rows [first, stop)."""
        blocks = [self._last[1]] if self._last is not None and self._last[0] == first else []
        at = first + len(blocks)
        if at < stop:
            cursor = self._cursor_before(at)
            cursor.skip(at - cursor.at)
            block = cursor.take(stop - at)
            if block is None or len(block.rows) < stop - at:
                expected = self._survey.rows // self._source.crossing.factor
                raise DataError(
                    f"{self._source.files[0].place}: has {cursor.at:,} rows; expected {expected:,}, as surveyed",
                    hint="Run again. Do not change the input during a run.",
                )
            blocks.append(block)
        joined = concat_blocks(blocks)
        if self._source.crossing.factor > 1:
            self._last = stop - 1, joined.slice(len(joined.rows) - 1, len(joined.rows))
        return joined

    def _cursor_before(self, first: int) -> BlockCursor:
        """A cursor at row `first` or before it, with as few rows between as possible."""
        starts = self._survey.starts
        at = bisect_right(starts, first, key=lambda start: start.selected) - 1
        start = starts[at] if at >= 0 else BEGINNING
        cursor = self._cursor
        if cursor is None or cursor.at > first or cursor.at < start.selected:
            blocks = self._source.selected(self._survey, self._columns, start)
            self._cursor = cursor = BlockCursor(blocks, start.selected)
        return cursor
