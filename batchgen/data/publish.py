"""From tables to the files that people read: staged whole in the private folder, then renamed; the manifest last.

    Stage.writer ──rows──> file, fsync ──release──> rename over the previous file, fsync the folder

Until a file is released it lies where no reader looks. Knows nothing of how the answers were made or scored.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.data.durable import disk_errors, replace_durably, sha256, sync_file, sync_folder
from batchgen.data.failpoints import fail_point
from batchgen.data.folder import RunFolder
from batchgen.data.parts import file_metadata, parquet_options
from batchgen.errors import StateError

ROW_GROUP_BYTES = 16 << 20
"""Tables are joined into row groups of about this size in memory: parts are small, readers like larger ones, and memory is to stay flat."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file that readers may open; `name` is relative to the run's folder."""

    name: str
    sha256: str
    bytes: int
    rows: int


def check_published(folder: RunFolder, files: Iterable[PublishedFile]) -> None:
    """Make sure that published files are what the manifest says.

    Raises:
        StateError: one is missing, damaged or was changed.
    """
    for file in files:
        path = folder.path / file.name
        if not path.exists() or path.stat().st_size != file.bytes or sha256(path) != file.sha256:
            found = "was changed or damaged" if path.exists() else "is missing"
            raise StateError(
                f"{path} {found} after it was published: it is not the file in manifest.json",
                hint="Start over with --fresh: what is there is moved aside, not deleted.",
            )


class TableWriter(Protocol):
    """Takes tables one by one."""

    def write(self, table: pa.Table) -> None:
        """Write a table, or keep it until there is enough for a row group."""


class FileWriter:
    """One Parquet file, whole and synced once the `with` block is left without an error."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str) -> None:
        self._path = path
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._unfinished = path.with_suffix(".tmp")  # readers take any *.parquet for whole
        self._writer = pq.ParquetWriter(self._unfinished, schema, **parquet_options(compression))

    def write(self, table: pa.Table) -> None:
        """Write a table, or keep it until there is enough for a row group."""
        self._waiting.append(table)
        self._bytes += table.nbytes
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._writer:
            if kind is None:
                self._flush()
        if kind is None:
            fail_point("publish.before_sync")
            sync_file(self._unfinished)
            self._unfinished.rename(self._path)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).cast(self._schema)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            self._waiting, self._bytes = [], 0
            fail_point("publish.half")


class PartsWriter:
    """A folder of Parquet files, one per table."""

    def __init__(self, folder: Path, schema: pa.Schema, compression: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._schema = schema
        self._compression = compression
        self._count = 0

    def write(self, table: pa.Table) -> None:
        """Write a table into a file of its own."""
        path = self._folder / f"part-{self._count:05d}.parquet"
        with FileWriter(path, self._schema, self._compression) as writer:
            writer.write(table)
        self._count += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            sync_folder(self._folder)


@dataclass(frozen=True, slots=True)
class Stage:
    """New files of a run folder that nobody sees yet.

    Attributes:
        mode: permissions of the files.
        facts: what the files' metadata says about their origin; holds nothing that differs from a resumed run.
    """

    folder: RunFolder
    compression: str
    mode: int
    facts: Mapping[str, object]

    def clear(self) -> None:
        """Begin with nothing.

        Raises:
            ResourceError: the disk refused.
        """
        staged = self.folder.staged
        with disk_errors("cannot empty", staged):
            if staged.exists():
                shutil.rmtree(staged)
            staged.mkdir(mode=0o700)

    def responses(
        self, schema: pa.Schema, layout: Literal["file", "parts"]
    ) -> FileWriter | PartsWriter:
        """A writer of the answers, in one file or in a folder."""
        if layout == "file":
            return self.file(self.folder.responses.name, schema)
        described = schema.with_metadata(file_metadata(self.facts))
        return PartsWriter(
            self.folder.staged / self.folder.response_parts.name, described, self.compression
        )

    def file(self, name: str, schema: pa.Schema) -> FileWriter:
        """A writer of one file."""
        described = schema.with_metadata(file_metadata(self.facts))
        return FileWriter(self.folder.staged / name, described, self.compression)

    def release(self) -> list[PublishedFile]:
        """Rename the new files over the previous ones, and remove what the new ones leave out.

        The manifest is the caller's next step: until it is written, the folder is not complete.

        Raises:
            ResourceError: the disk refused.
        """
        folder, staged = self.folder, self.folder.staged
        names = sorted(path.name for path in staged.iterdir())
        with disk_errors("cannot write", folder.path):
            for name in names:
                self._release(staged / name, folder.path / name)
            for target in folder.published:
                if target.name not in names:
                    _remove(target)
            sync_folder(folder.path)
            staged.rmdir()
        return [_described(folder, path) for name in names for path in _files(folder.path / name)]

    def _release(self, new: Path, target: Path) -> None:
        if new.is_dir() and not target.exists():
            for path in new.iterdir():
                path.chmod(self.mode)
            # A folder is readable to those who may read its files.
            new.chmod(self.mode | (self.mode & 0o444) >> 2 | 0o700)
            fail_point("publish.before_rename")
            new.replace(target)
            fail_point("publish.after_rename")
        elif new.is_dir():  # file by file, so that at no moment the answers are gone
            names = [path.name for path in new.iterdir()]
            for name in names:
                replace_durably(new / name, target / name, stage="publish", mode=self.mode)
            for path in target.iterdir():
                if path.name not in names:
                    path.unlink()
            new.rmdir()
        else:
            replace_durably(new, target, stage="publish", mode=self.mode)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _described(folder: RunFolder, path: Path) -> PublishedFile:
    name = path.relative_to(folder.path).as_posix()
    rows: int = pq.read_metadata(path).num_rows
    return PublishedFile(name, sha256(path), path.stat().st_size, rows)
