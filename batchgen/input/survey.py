"""What one pass over the input finds: rows, types, hashes of the files, and places from which it can be read again."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.arrow.nested_column import nested_paths, split_path, type_at
from batchgen.errors import DataError
from batchgen.input.blocks import BlockStart
from batchgen.input.files import InputFile
from batchgen.input.ids import check_column
from batchgen.input.turns.turn_counts import TurnCounts
from batchgen.job.spec import Columns
from batchgen.storage.durable import sha256

MOST_STARTS = 4096
"""Places that are kept, about; with more, every second one is dropped."""


@dataclass(frozen=True, slots=True)
class SurveyedFile:
    """An input file as it was during the survey; `name` as in `InputFile`.

    `url` and `e_tag` are those of the object that `path` is a copy of; empty for a file of this machine.
    """

    path: Path
    name: str
    size: int
    modified_ns: int
    sha256: str
    url: str = ""
    e_tag: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """Result of one pass over the input.

    Attributes:
        rows: number of rows after filter, sample and limit.
        schema: the columns of every chunk.
        starts: places from which the input can be read, in order; the first is its beginning.
        inexact: those of the surveyed columns where some row's own cell is not the one of this schema.
        sample_key: rows with a larger key are not selected; None if all are.
        turns: of the selected rows; None in a job without turns. `rows` counts turns.
    """

    rows: int
    schema: pa.Schema
    files: tuple[SurveyedFile, ...]
    sample_key: int | None = None
    inexact: frozenset[str] = frozenset()
    starts: tuple[BlockStart, ...] = ()
    turns: TurnCounts | None = None

    def part_rows(self, wanted: int) -> int:
        """The rows that a part has room for: `wanted`, or what whole conversations need."""
        return self.turns.part_rows(wanted) if self.turns else wanted


class StartIndex:
    """Collects the places from which the input can be read; memory does not grow with the input."""

    def __init__(self) -> None:
        self._starts: list[BlockStart] = []

    def add(self, start: BlockStart | None, kept: int) -> None:
        """Add the start of a block, before which `kept` rows passed the filter."""
        if start is None:
            return
        self._starts.append(replace(start, selected=kept))
        if len(self._starts) > 2 * MOST_STARTS:
            self._starts = self._starts[::2]

    def finish(self, sample: npt.NDArray[np.int64] | None) -> tuple[BlockStart, ...]:
        """The places; `sample` are the numbers of the selected rows, if not all that pass the filter are selected."""
        if sample is None:
            return tuple(self._starts)
        before = np.searchsorted(sample, [start.row for start in self._starts]).tolist()
        return tuple(replace(s, selected=n) for s, n in zip(self._starts, before, strict=True))


def hash_file(file: InputFile) -> SurveyedFile:
    """The record of a file, with its hash; DataError if it cannot be read."""
    try:
        digest = sha256(file.path)
    except OSError as error:
        raise DataError(f"{file.label}: cannot be read: {error.strerror}") from error
    url, e_tag = (str(file.remote.url), file.remote.e_tag) if file.remote else ("", "")
    return SurveyedFile(
        file.path, file.name, file.size, file.modified_ns, digest, url=url, e_tag=e_tag
    )


def check_types(schema: pa.Schema, columns: Columns) -> None:
    """Raise DataError if the columns for prompts, messages and turns are missing or have another type."""
    wanted = {
        "prompt": (columns.prompt, "text", pa.types.is_string),
        "messages": (
            columns.messages,
            "a list of {role, content}, or JSON text of one",
            _may_be_messages,
        ),
        "turns": (columns.turns, "a list of texts, or JSON text of one", _may_be_turns),
    }
    for key, (name, expected, fits) in wanted.items():
        if name is None:
            continue
        column, _ = split_path(name, schema.names)
        check_column(f"input.columns.{key}", column, schema.names)
        type_ = type_at(schema, name)
        if type_ is None:
            paths = ", ".join(nested_paths(schema.field(column).type, column))
            raise DataError(
                f"input.columns.{key}: column {column!r} has no field {name!r}",
                hint=f"Use one of {paths}." if paths else f"Use the whole column: {column}.",
            )
        if not fits(type_):
            raise DataError(
                f"input.columns.{key}: column {name!r} is {type_}; expected {expected}",
                hint="Name another column, or convert this one to text.",
            )


def _may_be_messages(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) and pa.types.is_struct(type_.value_type)
    return bool(is_list or pa.types.is_string(type_))


def _may_be_turns(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) and pa.types.is_string(type_.value_type)
    return bool(is_list or pa.types.is_string(type_))
