"""The input of a job as a stream: found, proved readable once from end to end, then read in chunks of rows.

    source = open_source(job.input, seed=job.run.seed)      heads and footers only
    survey = source.survey()                                 one pass: rows, types, ids, hashes of the files
    for chunk in source.chunks(survey, rows=2048): ...       another pass, from which rows are taken

Rows are numbered twice: over the whole input from 0, which is the id of a row that has no other; and over the rows
that `filter`, `sample` and `limit` leave, in that order, which is `Row.index`. Memory does not grow with the input,
but for eight bytes a row that tell ids apart during the survey.
Knows nothing of prompts and output.
"""

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from batchgen.arrow.values import python_values
from batchgen.errors import DataError
from batchgen.input.blocks import Block, RowLocations, rechunk
from batchgen.input.files import InputFile, find_files
from batchgen.input.ids import IdCheck, RowIds, check_column, find_id_column, id_texts
from batchgen.input.input_table import InputTable, open_table
from batchgen.input.redacted_cells import CellRedaction
from batchgen.input.row_sample import BottomK, Condition, sample_keys
from batchgen.job.spec import Columns, Input
from batchgen.records import Failure, Row

__all__ = ["Chunk", "InputFile", "InputSource", "Survey", "SurveyedFile", "open_source"]


@dataclass(frozen=True, slots=True)
class SurveyedFile:
    """A file as it was when it was proved readable."""

    path: Path
    size: int
    modified_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the input found.

    Attributes:
        rows: selected rows, after filter, sample and limit.
        schema: the columns of every chunk.
        sample_key: rows with a greater key are not drawn; None where all are.
    """

    rows: int
    schema: pa.Schema
    files: tuple[SurveyedFile, ...]
    sample_key: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Selected rows [first, first + len(ids)).

    Attributes:
        number: chunks count from 0.
        table: all columns, with exactly the schema of the survey.
        failures: rows that cannot be used, by `Row.index`.
        redacted: how much personal data of each kind was taken out of the table.
    """

    number: int
    first: int
    table: pa.Table
    ids: tuple[str, ...]
    failures: Mapping[int, Failure]
    redacted: Mapping[str, int] = field(default_factory=dict)

    def rows(self, columns: Sequence[str]) -> list[Row]:
        """The rows, with only some columns as Python objects."""
        values = [python_values(self.table.column(name)) for name in columns]
        fields = zip(*values, strict=True) if values else ((),) * len(self.ids)
        return [
            Row(index, id_, dict(zip(columns, cells, strict=True)))
            for index, (id_, cells) in enumerate(zip(self.ids, fields, strict=True), self.first)
        ]


def open_source(spec: Input, *, seed: int, redaction: CellRedaction | None = None) -> "InputSource":
    """Find the input files and read their heads: format, encoding, columns.

    Args:
        spec: `input` of the job; paths are absolute.
        seed: decides which rows `sample` draws.
        redaction: what is taken out of the cells of chunks; `filter` sees them as they are.

    Raises:
        DataError: nothing to read, its beginning is not what it should be, or the job names columns that it lacks.
    """
    return InputSource(open_table(find_files(spec), spec), spec, seed=seed, redaction=redaction)


class InputSource:
    """The rows of some input files. `columns` are theirs and those of hive folders, in order.

    Of JSONL files `columns` are those in the first lines; the survey's schema has all.
    """

    def __init__(
        self, table: InputTable, spec: Input, *, seed: int, redaction: CellRedaction | None = None
    ) -> None:
        """See `open_source`."""
        self._redaction = redaction
        self._table = table
        self._spec = spec
        self._seed = seed
        self.files = table.files
        self.columns = table.columns
        self.id_column = find_id_column(spec.columns.id, self.columns)
        if table.known_schema is not None:
            self._filter(table.known_schema)

    def describe(self) -> str:
        """Format, number of files, encoding and delimiter, such as `csv, gb18030, ","`."""
        return self._table.describe()

    def survey(self) -> Survey:
        """Read everything: prove it readable, find the types, count the selected rows, check the ids.

        Ids have to be there, and to differ, among all rows that pass `filter`, whatever `sample` and `limit` leave.
        JSONL is read twice, since its types are known only at the end.

        Raises:
            DataError: something in the input is not as it should be, or no row is left.
        """
        schema = self._table.schema()
        _check_types(schema, self._spec.columns)
        files = tuple(_surveyed(file) for file in self.files)
        least = None if self._spec.sample is None else BottomK(self._spec.sample)
        places = RowLocations()
        ids = None if self.id_column is None else IdCheck(self.id_column, places.name)
        kept = 0
        for block in self._blocks(schema, places):
            kept += len(block.rows)
            if ids is not None:
                ids.add(self._ids(block))
            if least is not None:
                least.add(sample_keys(block.rows, self._seed))
        if ids is not None:
            ids.finish(lambda: map(self._ids, self._blocks(schema, RowLocations())))
        if not kept:
            raise self._nothing(places.rows)
        rows = min(kept, self._spec.sample or kept, self._spec.limit or kept)
        return Survey(rows, schema, files, None if least is None else least.greatest())

    def chunks(self, survey: Survey, *, rows: int, skip: Container[int] = ()) -> Iterator[Chunk]:
        """The selected rows in chunks: chunk k holds those with index [k * rows, (k + 1) * rows).

        Args:
            survey: of this source, by this process or another.
            rows: rows of every chunk but the last.
            skip: numbers of chunks to pass over.

        Raises:
            DataError: the files are no longer those that were surveyed.
        """
        before = [(file.path, file.size, file.modified_ns) for file in survey.files]
        if before != [(file.path, file.size, file.modified_ns) for file in self.files]:
            raise DataError(
                f"{self.files[0].path.parent}: the input changed after it was surveyed",
                hint="Run again; leave the input alone while it is used.",
            )
        last = max((n for n in range(-(-survey.rows // rows)) if n not in skip), default=None)
        if last is None:
            return
        number = -1
        for number, block in enumerate(rechunk(self._selected(survey), rows)):
            if number not in skip:
                yield self._chunk(number, number * rows, block)
            if number == last:
                return
        raise DataError(
            f"{self.files[0].path.parent}: gave {number + 1:,} chunks of rows; expected {last + 1:,}, as surveyed",
            hint="Run again; leave the input alone while it is used.",
        )

    def _blocks(self, schema: pa.Schema, places: RowLocations) -> Iterator[Block]:
        """All rows that pass the filter."""
        row_filter = self._filter(schema)
        for number, file in enumerate(self.files):
            places.begin(file.path)
            for batch in self._table.batches(schema, number):
                stop = places.rows + batch.table.num_rows
                block = Block(batch.table, np.arange(places.rows, stop), batch.failures)
                places.rows = stop
                yield block if row_filter is None else block.where(row_filter.mask(batch.table))

    def _selected(self, survey: Survey) -> Iterator[Block]:
        """The rows that pass filter, sample and limit."""
        left = survey.rows
        for block in self._blocks(survey.schema, RowLocations()):
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
        if self._redaction is not None:
            column = self._redaction.of_ids(column)
        return RowIds(id_texts(column.column(0), name), block.rows)

    def _chunk(self, number: int, first: int, block: Block) -> Chunk:
        failures = {first + position: failure for position, failure in block.failures.items()}
        ids = tuple(self._ids(block).texts.to_pylist())
        if self._redaction is None:
            return Chunk(number, first, block.table, ids, failures)
        redacted = self._redaction.apply(block.table)
        return Chunk(number, first, redacted.table, ids, failures, redacted.counts)

    def _nothing(self, rows: int) -> DataError:
        if rows:
            return DataError(
                f"input.filter: none of the {rows:,} rows meets {self._spec.filter!r}",
                hint="Look at the values of these columns; text is compared letter by letter.",
            )
        names = ", ".join(str(file.path) for file in self.files[:3])
        return DataError(
            f"{names}: no rows", hint="Is the input complete? A header alone is not enough."
        )


def _surveyed(file: InputFile) -> SurveyedFile:
    try:
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from error
    return SurveyedFile(file.path, file.size, file.modified_ns, digest)


def _check_types(schema: pa.Schema, columns: Columns) -> None:
    """Raise DataError if the columns for prompts and messages are not there, or hold something else."""
    wanted = {
        "prompt": (columns.prompt, "text", pa.types.is_string),
        "messages": (
            columns.messages,
            "a list of {role, content}, or JSON text of one",
            _may_be_messages,
        ),
    }
    for key, (name, expected, fits) in wanted.items():
        if name is None:
            continue
        check_column(f"input.columns.{key}", name, schema.names)
        if not fits(schema.field(name).type):
            raise DataError(
                f"input.columns.{key}: column {name!r} is {schema.field(name).type}; expected {expected}",
                hint="Name another column, or write this one as text.",
            )


def _may_be_messages(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) and pa.types.is_struct(type_.value_type)
    return bool(is_list or pa.types.is_string(type_))
