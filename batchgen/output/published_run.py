"""The published files of a complete run, for every command that reads one.

manifest.json ──> Manifest: run id, settings, counts; name, size and sha256 of each file
responses.parquet, or responses/*.parquet ──> ParquetTable: row groups, one at a time
"""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchgen.errors import StateError
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.durable import sha256

FileLayout = Literal["file", "parts"]
"""The responses are one Parquet file, or a folder with one file per part."""

CACHED_ROW_GROUPS = 4
"""Row groups that random access keeps in memory, about 16 MiB each: two runs mostly have the same row order."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """An entry of the manifest's `files`; `name` is relative to the run folder."""

    name: str
    sha256: str
    bytes: int
    rows: int

    @property
    def has_responses(self) -> bool:
        return self.name.startswith("responses")


@dataclass(frozen=True, slots=True)
class IntegrityIssue:
    """A file that differs from its record. `file` is relative to the run folder; `problem` never quotes a row."""

    file: str
    problem: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a complete run.

    Attributes:
        content: all of it, as plain values.
        settings: everything that decides the responses; `fingerprint` is its hash.
        samples: responses per input row.
        evaluation: metrics, columns and gates of the last scoring.
    """

    content: Mapping[str, Any] = field(repr=False)
    run_id: str
    fingerprint: str
    settings: Mapping[str, Any]
    files: Sequence[PublishedFile]
    counts: Counts
    samples: int
    evaluation: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """The job's `output.prefix`, which every answer column begins with."""
        return str(self.settings["output"]["prefix"])


def read_manifest(folder: RunFolder) -> Manifest:
    """Read the manifest of a complete run.

    Raises:
        StateError: there is none, or it is damaged.
    """
    if not folder.manifest.exists():
        raise StateError(
            f"{folder.path} is not complete yet",
            hint="Run the job again; `batchgen status` shows its progress.",
        )
    content = read_json(folder.manifest)
    try:
        names = ("run_id", "fingerprint", "settings", "samples", "evaluation")
        files = tuple(PublishedFile(**file) for file in content["files"])
        known = {name: content[name] for name in names}
        return Manifest(content, files=files, counts=Counts(**content["counts"]), **known)
    except (KeyError, TypeError) as error:
        raise StateError(
            f"{folder.manifest} is damaged: {error}",
            hint="Start over with --fresh: the old run is moved aside, not deleted.",
        ) from error


class PublishedRun:
    """The published files of a complete run."""

    def __init__(self, folder: RunFolder) -> None:
        """Read the manifest, and no other file.

        Raises:
            StateError: the run is not complete, or its manifest is damaged.
        """
        self.folder = folder
        self.manifest = read_manifest(folder)

    @property
    def layout(self) -> FileLayout:
        names = [file.name for file in self.manifest.files]
        return "file" if self.folder.responses.name in names else "parts"

    @cached_property
    def responses(self) -> "ParquetTable":
        """The answers with their input columns and scores."""
        files = [file.name for file in self.manifest.files if file.has_responses]
        return ParquetTable([self.folder.path / name for name in files])

    @property
    def schema(self) -> pa.Schema:
        """The columns of the responses without the scores."""
        scores = set(self.manifest.evaluation.get("columns", ()))
        whole = self.responses.schema.remove_metadata()
        return pa.schema([column for column in whole if column.name not in scores])

    @property
    def file_mode(self) -> int:
        """Permissions of the published files."""
        return stat.S_IMODE(self.responses.paths[0].stat().st_mode)

    @property
    def origin(self) -> dict[str, Any]:
        """The part of the manifest that the metadata of every published file repeats."""
        keys = ("job", "fingerprint", "settings", "model", "versions")
        return {key: self.manifest.content[key] for key in keys}

    def answers(self, names: Sequence[str]) -> Iterator[pa.Table]:
        """Some answer columns, without prefix, a row group at a time."""
        columns = [self.manifest.prefix + name for name in names]
        for table in self.responses.row_groups(columns):
            yield table.rename_columns(list(names))

    def index(self, names: Sequence[str]) -> pl.DataFrame:
        """Some answer columns of all rows, without prefix, and `row`: the row's number for `responses.take`."""
        columns = [self.manifest.prefix + name for name in names]
        table = self.responses.read(columns).rename_columns(list(names))
        return pl.DataFrame(pl.from_arrow(table)).with_row_index("row")

    def find(
        self, keys: Sequence[tuple[str, int]], names: Sequence[str]
    ) -> list[dict[str, Any] | None]:
        """Some answer columns, without prefix, of the rows with these ids and samples; None where there is no such row."""
        schema = {"id": pl.String, "sample": pl.Int32}
        wanted = pl.DataFrame(list(keys), schema, orient="row")
        rows = wanted.join(self._keys, on=["id", "sample"], how="left", maintain_order="left")[
            "row"
        ]
        columns = [self.manifest.prefix + name for name in names]
        taken = self.responses.take(rows.drop_nulls().to_list(), columns)
        values = iter(taken.rename_columns(list(names)).to_pylist())
        return [None if row is None else next(values) for row in rows]

    @cached_property
    def _keys(self) -> pl.DataFrame:
        return self.index(["id", "sample"]).unique(["id", "sample"], keep="last")

    def frame(self) -> pl.DataFrame:
        """All responses in memory."""
        return pl.DataFrame(pl.from_arrow(self.responses.read()))

    def issues(
        self, *, hashes: bool = True, only_responses: bool = False
    ) -> Iterator[IntegrityIssue]:
        """Published files that are missing or that differ from the manifest.

        Args:
            hashes: compare sha256 as well as sizes; reads the files whole.
            only_responses: leave scores and metrics out.
        """
        for file in self.manifest.files:
            path = self.folder.path / file.name
            if only_responses and not file.has_responses:
                continue
            if not path.is_file():
                yield IntegrityIssue(file.name, "is missing")
            elif (size := path.stat().st_size) != file.bytes:
                yield IntegrityIssue(file.name, f"has {size:,} bytes, expected {file.bytes:,}")
            elif hashes and (found := sha256(path)) != file.sha256:
                yield IntegrityIssue(file.name, f"has sha256 {found}, expected {file.sha256}")

    def check(self, *, hashes: bool = True, only_responses: bool = False) -> None:
        """Raise if a published file differs from the manifest; see `issues`.

        Raises:
            StateError: one is missing, damaged or was changed, or a process died while it replaced the files.
        """
        check_no_pending_release(self.folder)
        for issue in self.issues(hashes=hashes, only_responses=only_responses):
            path = self.folder.path / issue.file
            hint = "Start over with --fresh: the old run is moved aside, not deleted."
            if path in (self.folder.scores, self.folder.metrics):
                hint = f"Make it again: batchgen score {self.folder.path}"
            raise StateError(
                f"{path} was changed or damaged after it was published: it {issue.problem}",
                hint=hint,
            )


def check_no_pending_release(folder: RunFolder) -> None:
    """Raise if some published files were replaced and others not yet.

    Raises:
        StateError: a release is pending.
    """
    if folder.release.exists():
        raise StateError(
            f"the files of {folder.path} are being replaced, or were when a process died",
            hint="Repeat the last command, `batchgen run` or `batchgen score`: it completes the replacement.",
        )


def responses_in(folder: RunFolder) -> "ParquetTable":
    """The responses in a folder without a manifest: staged ones, or those that `score` wrote for a file."""
    single = folder.responses.exists()
    parts = sorted(folder.response_parts.glob("*.parquet"))
    return ParquetTable([folder.responses] if single else parts)


class ParquetTable:
    """Parquet files with one schema, read as one table. Checksums of all pages that are read are verified.

    Each method raises a StateError with the file's name if the file is damaged, or is replaced between two reads.
    """

    def __init__(self, paths: Sequence[Path], *, hint: str = "") -> None:
        self.paths = paths
        self._hint = hint or "Run `batchgen verify RUN` to check every page."
        self._open: tuple[Path, pq.ParquetFile] | None = None
        self._stamps: dict[Path, tuple[int, int, int]] = {}
        self._cache: dict[tuple[int, tuple[str, ...] | None], pa.Table] = {}

    @cached_property
    def schema(self) -> pa.Schema:
        """With the metadata of the first file."""
        return self._file(self._first).schema_arrow

    @property
    def compression(self) -> str:
        """As the job key `output.compression` names it."""
        file = self._file(self._first)
        if not file.num_row_groups:
            return "zstd"
        name: str = file.metadata.row_group(0).column(0).compression
        return "none" if name == "UNCOMPRESSED" else name.lower()

    def row_groups(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows, a row group at a time. A published row group has whole parts, so no prompt spans two of them."""
        for path in self.paths:
            for number in range(self._file(path).num_row_groups):
                yield self._read(path, number, columns)

    def read(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """All rows that fulfil a condition on these columns, in memory."""
        tables = self.row_groups(columns)
        chosen = tables if where is None else (table.filter(where) for table in tables)
        return pa.concat_tables([self._empty(columns), *chosen])

    def take(self, rows: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Rows by their number in the whole table, in the given order."""
        numbers = np.asarray(rows, np.int64)
        groups = np.searchsorted(self._ends, numbers, side="right")
        tables = [self._empty(columns)]
        for group in np.unique(groups):
            table = self._cached(int(group), columns)
            first = self._ends[group] - table.num_rows
            tables.append(table.take(numbers[groups == group] - first))
        return pa.concat_tables(tables).take(np.argsort(np.argsort(groups, kind="stable")))

    def _empty(self, columns: Sequence[str] | None) -> pa.Table:
        table = self.schema.remove_metadata().empty_table()
        return table if columns is None else table.select(columns)

    @property
    def _first(self) -> Path:
        if not self.paths:
            raise StateError("the run has no answers", hint="Start over with --fresh.")
        return self.paths[0]

    @cached_property
    def _groups(self) -> list[tuple[Path, int, int]]:
        """File, number in it, and rows of each row group."""
        found = []
        for path in self.paths:
            metadata = self._file(path).metadata
            sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
            found += [(path, n, size) for n, size in enumerate(sizes)]
        return found

    @cached_property
    def _ends(self) -> npt.NDArray[np.int64]:
        return np.cumsum([size for _, _, size in self._groups], dtype=np.int64)

    def _cached(self, group: int, columns: Sequence[str] | None) -> pa.Table:
        key = (group, None if columns is None else tuple(columns))
        if key not in self._cache:
            if len(self._cache) >= CACHED_ROW_GROUPS:
                del self._cache[next(iter(self._cache))]
            path, number, _ = self._groups[group]
            self._cache[key] = self._read(path, number, columns)
        return self._cache[key]

    def _read(self, path: Path, number: int, columns: Sequence[str] | None) -> pa.Table:
        file = self._file(path)
        try:
            table = file.read_row_group(number, columns=None if columns is None else list(columns))
            return table.replace_schema_metadata() if columns is None else table.select(columns)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise self._damaged(path) from error

    def _file(self, path: Path) -> pq.ParquetFile:
        """The open file; one at a time, since a run may have thousands of parts."""
        if self._open is None or self._open[0] != path:
            try:
                status = path.stat()
                file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(path) from error
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._stamps.setdefault(path, stamp) != stamp:
                raise StateError(f"{path} was replaced while it was read", hint="Try again.")
            if self._open is not None:
                self._open[1].close()
            self._open = (path, file)
        return self._open[1]

    def _damaged(self, path: Path) -> StateError:
        return StateError(f"{path} is damaged", hint=self._hint)
