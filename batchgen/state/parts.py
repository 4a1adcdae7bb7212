"""Sealed parts: a part is written, checked, and committed under its final name.

    tmp/<random>.tmp   written with page checksums, fsync, re-opened and counted
        │ link()       ← the commit point; never overwrites
    parts/00012.bgpart
    parts/00012.json   derived: rows, counts, sha256; rebuilt if it is missing

A part holds the output rows of consecutive input rows, in input order: kept columns of the input, then the columns of the
answers. It is never changed, except that other columns may be wanted for the same answers: then it is replaced as a whole.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.errors import StateError
from batchgen.records import Response
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.durable import (
    check_path_is_text,
    commit_new,
    disk_errors,
    open_private,
    read_errors,
    replace_durably,
    sha256,
    sync_file,
    sync_folder,
    temporary_name,
)
from batchgen.storage.entries import check_regular, exists, list_folder
from batchgen.storage.failpoints import fail_point

REDACTED_KEY = b"batchgen.redacted"
"""Parquet metadata key of a part: JSON with the number of redacted items by kind."""

_PART_NAME = re.compile(r"\d{5,}\.(bgpart|json)")

LAST_COLUMN = "created_at"
"""The last column of every part, without `output.prefix`."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over a part or a run; rows are output rows, one per (input row, sample)."""

    rows: int = 0
    failed: int = 0
    skipped: int = 0
    cut_by_length: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    redacted: Mapping[str, int] = field(default_factory=dict)
    """Number of redacted items by kind; the items of a row's cells count once, not once per sample."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            rows=self.rows + other.rows,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
            cut_by_length=self.cut_by_length + other.cut_by_length,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            redacted=dict(Counter(self.redacted) + Counter(other.redacted)),
        )


@dataclass(frozen=True, slots=True)
class SealedPart:
    """A committed part."""

    number: int
    path: Path
    sha256: str
    counts: Counts


def parquet_options(compression: str) -> dict[str, object]:
    """Options of every Parquet file that is written: a checksum for each page, and a page index."""
    return {
        "compression": None if compression == "none" else compression,
        "write_page_checksum": True,
        "write_page_index": True,
    }


def count_table(table: pa.Table, prefix: str) -> Counts:
    """Sum up a table of output rows."""
    reasons = table.column(f"{prefix}finish_reason")

    def of(reason: str) -> int:
        return int(pc.sum(pc.equal(reasons, reason)).as_py() or 0)

    def total(name: str) -> int:
        return int(pc.sum(table.column(prefix + name)).as_py() or 0)

    return Counts(
        rows=table.num_rows,
        failed=of("error"),
        skipped=of("skipped"),
        cut_by_length=of("length"),
        input_tokens=total("input_tokens"),
        output_tokens=total("output_tokens"),
        redacted=json.loads((table.schema.metadata or {}).get(REDACTED_KEY, b"{}")),
    )


def answer_prefix(schema: pa.Schema) -> str:
    """The prefix of the answer columns of a part: a kill may leave parts of a run with different columns."""
    return str(schema.names[-1]).removesuffix(LAST_COLUMN)


def count_part(table: pa.Table) -> Counts:
    """Sum up a part."""
    return count_table(table, answer_prefix(table.schema))


def count_responses(responses: Iterable[Response]) -> Counts:
    """Sum up answers that are not in a part yet."""
    total = Counts()
    for response in responses:
        total += Counts(
            rows=1,
            failed=int(response.finish_reason == "error"),
            skipped=int(response.finish_reason == "skipped"),
            cut_by_length=int(response.finish_reason == "length"),
            input_tokens=response.input_tokens or 0,
            output_tokens=response.output_tokens or 0,
            redacted=response.redacted,
        )
    return total


class PartStore:
    """The sealed parts of one run."""

    def __init__(self, folder: RunFolder, *, compression: str) -> None:
        self._folder = folder
        self._options = parquet_options(compression)

    def seal(self, number: int, table: pa.Table) -> SealedPart:
        """Write a part, check it and commit it.

        Raises:
            ResourceError: the disk is full or failed; nothing of the part is left.
            StateError: the file does not read back as written, or another process has sealed this part.
        """
        if not self._commit(number, table):
            raise StateError(
                f"{self._path(number)} was sealed by another process",
                hint="Make sure that no other run uses this folder, then run again.",
            )
        return self._record(number, count_part(table))

    def _commit(self, number: int, table: pa.Table) -> bool:
        """Write and check a part, and give it its name; False if another process has sealed it."""
        target = self._path(number)
        temporary = temporary_name(self._folder.scratch)
        with disk_errors("cannot save a part of the answers to", target):
            try:
                self._write(temporary, table)
                commit_new(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
        return True

    def replace(self, part: SealedPart, table: pa.Table) -> SealedPart:
        """Replace a part by the same answers with other columns; at every moment, one of the two is whole.

        The record is deleted first, and made again from the part that is found.

        Raises:
            ResourceError: the disk is full or failed; the old part is left.
            StateError: the file does not read back as written.
        """
        temporary = temporary_name(self._folder.scratch)
        with disk_errors("cannot save a part of the answers to", part.path):
            try:
                self._write(temporary, table)
                part.path.with_suffix(".json").unlink(missing_ok=True)
                sync_folder(part.path.parent)
                replace_durably(temporary, part.path, stage="columns", mode=0o600)
            finally:
                temporary.unlink(missing_ok=True)
        return self._record(part.number, count_part(table))

    def _write(self, path: Path, table: pa.Table) -> None:
        """Write a table to a new file, durably, and check the file."""
        with open_private(path) as file, pq.ParquetWriter(file, table.schema, **self._options) as w:
            w.write_table(table)
            fail_point("part.half")
        fail_point("part.before_sync")
        sync_file(path)
        written = pq.read_metadata(path).num_rows
        if written != table.num_rows:
            raise StateError(f"{path} has {written} rows after writing; expected {table.num_rows}")

    def discard(self, part: SealedPart) -> None:
        """Delete a part."""
        with disk_errors("cannot delete", part.path):
            part.path.unlink()
            part.path.with_suffix(".json").unlink(missing_ok=True)

    def sealed(self) -> dict[int, SealedPart]:
        """The sealed parts by number.

        Raises:
            StateError: the sha256 of a part is wrong, or there is a file of something else.
        """
        return {part.number: part for part in map(self._read, part_files(self._folder))}

    def _recorded(self, path: Path) -> SealedPart:
        record = path.with_suffix(".json")
        if not exists(record):  # killed between the commit and its record
            return self._record(int(path.stem), count_part(read_part(path)))
        known = read_json(record)
        return SealedPart(int(path.stem), path, known["sha256"], Counts(**known["counts"]))

    def _path(self, number: int) -> Path:
        return self._folder.parts / f"{number:05d}.bgpart"

    def _record(self, number: int, counts: Counts) -> SealedPart:
        path = self._path(number)
        part = SealedPart(number, path, part_sha256(path), counts)
        self._folder.write_json(
            path.with_suffix(".json"),
            {"sha256": part.sha256, "counts": asdict(counts)},
            stage="record",
        )
        return part

    def _read(self, path: Path) -> SealedPart:
        part = self._recorded(path)
        if part_sha256(path) != part.sha256:
            raise part_error(path, "its sha256 differs from the one recorded when it was sealed")
        return part


def part_files(folder: RunFolder) -> list[Path]:
    """The files of sealed parts, in input order. StateError if there is a file of something else among them."""
    for path in foreign_files(folder):
        raise StateError(
            f"{path} is not a file of the run", hint="Move it away: this folder is for parts only."
        )
    return list_folder(folder.parts, ".bgpart")


def foreign_files(folder: RunFolder) -> list[Path]:
    """What is in the folder of the parts and is neither a part nor its record."""
    return [path for path in list_folder(folder.parts) if not _PART_NAME.fullmatch(path.name)]


def check_size(path: Path, rows: int, expected: int) -> None:
    """Raise StateError if a part has another number of rows than the run expects; 0 if the run has no such part."""
    if rows != expected:
        problem = (
            f"has {rows:,} rows, expected {expected:,}" if expected else "is not a part of the run"
        )
        hint = "Move it away, then repeat the command to generate the rows that are missing."
        raise StateError(f"{path} {problem}", hint=hint)


def clear_parts(folder: RunFolder) -> None:
    """Delete all sealed parts, after they have been published."""
    part_files(folder)
    with disk_errors("cannot empty", folder.parts):
        fail_point("clean.before")
        for path in list_folder(folder.parts):
            path.unlink()
            fail_point("clean.half")


def part_sha256(path: Path) -> str:
    """The sha256 of a part; StateError if there is something else than a file at its path."""
    check_regular(path)
    with read_errors(path):
        return sha256(path)


def read_part(path: Path) -> pa.Table:
    """Read a part; StateError if a page checksum is wrong."""
    check_regular(path)
    check_path_is_text(path)
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise part_error(path, str(error).splitlines()[0]) from error


def stream_parts(parts: Mapping[int, SealedPart]) -> Iterator[pa.Table]:
    """The parts' tables in input order; StateError if a part is damaged or has changed since it was sealed."""
    for number in sorted(parts):
        part = parts[number]
        if part_sha256(part.path) != part.sha256:
            raise part_error(part.path, "it changed after it was sealed")
        yield read_part(part.path)


def part_error(path: Path, problem: str) -> StateError:
    """The error for a damaged part."""
    return StateError(
        f"the saved part {path} is damaged: {problem}",
        hint="Delete that file to have its rows generated again, or start over with `batchgen run --fresh`.",
    )
