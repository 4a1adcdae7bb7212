"""Publish tables: stage complete files in the private folder, rename them, write the manifest last.

    Stage.writer ──rows──> file, fsync ──release──> release.json ─> rename over the previous files ─> manifest
                                                     the commit

Until their release, files are in a folder that no reader opens. A process that dies during a release leaves release.json,
from which the next process completes it.
"""

import itertools
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.output.published_run import JOB_HASH, FileLayout, PublishedFile, read_manifest
from batchgen.state.file_metadata import file_metadata
from batchgen.state.parts import parquet_options
from batchgen.state.run_folder import RunFolder, folder_mode, read_json
from batchgen.storage.durable import (
    disk_errors,
    open_private,
    replace_durably,
    sha256,
    sync_file,
    sync_folder,
)
from batchgen.storage.entries import (
    check_regular,
    exists,
    irregular,
    is_file,
    is_folder,
    list_folder,
)
from batchgen.storage.failpoints import fail_point

ROW_GROUP_BYTES = 16 << 20
"""Size of a row group in memory: several small parts form one, since large row groups read faster; memory stays bounded."""

Write = Callable[[pa.Table], None]


@contextmanager
def _write_file(path: Path, schema: pa.Schema, compression: str) -> Iterator[Write]:
    """Write one Parquet file, which is complete and synced after the block, if that raised no error."""
    unfinished = path.with_suffix(".tmp")  # readers take any *.parquet for complete
    waiting: list[pa.Table] = []
    size = 0

    def flush() -> None:
        nonlocal size
        if waiting:
            table = pa.concat_tables(waiting).cast(schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            waiting.clear()
            size = 0
            fail_point("publish.half")

    def write(table: pa.Table) -> None:
        nonlocal size
        waiting.append(table)
        size += table.nbytes
        if size >= ROW_GROUP_BYTES:
            flush()

    options = parquet_options(compression)
    with open_private(unfinished) as file, pq.ParquetWriter(file, schema, **options) as writer:
        yield write
        flush()
    fail_point("publish.before_sync")
    sync_file(unfinished)
    unfinished.rename(path)


@contextmanager
def _write_parts(folder: Path, schema: pa.Schema, compression: str) -> Iterator[Write]:
    """Write a folder of Parquet files, one per table."""
    folder.mkdir()
    numbers = itertools.count()

    def write(table: pa.Table) -> None:
        path = folder / f"part-{next(numbers):05d}.parquet"
        with _write_file(path, schema, compression) as write_file:
            write_file(table)

    yield write
    sync_folder(folder)


@dataclass(frozen=True, slots=True)
class Stage:
    """New files of a run folder before their release.

    Attributes:
        facts: metadata of the files about their origin; the same for a resumed and an unbroken run.
    """

    folder: RunFolder
    compression: str
    mode: int
    facts: Mapping[str, object]

    def clear(self) -> None:
        staged = self.folder.staged
        with disk_errors("cannot empty", staged):
            if exists(staged):
                shutil.rmtree(staged)
            staged.mkdir(mode=0o700)

    def responses(self, schema: pa.Schema, layout: FileLayout) -> AbstractContextManager[Write]:
        """Open the answers for writing: a context manager that yields a function for tables."""
        if layout == "file":
            return self.file(self.folder.responses.name, schema)
        described = schema.with_metadata(file_metadata(self.facts))
        path = self.folder.staged / self.folder.response_parts.name
        return _write_parts(path, described, self.compression)

    def file(self, name: str, schema: pa.Schema) -> AbstractContextManager[Write]:
        """Open one file for writing, as `responses` does."""
        described = schema.with_metadata(file_metadata(self.facts))
        return _write_file(self.folder.staged / name, described, self.compression)

    def text(self, name: str, text: str) -> None:
        path = self.folder.staged / name
        with disk_errors("cannot write", path):
            with open_private(path) as file:
                file.write(text.encode())
            sync_file(path)

    def files(self) -> list[PublishedFile]:
        """The staged tables, as the manifest lists them."""
        return [
            PublishedFile(
                name=path.relative_to(self.folder.staged).as_posix(),
                sha256=sha256(path),
                bytes=path.stat().st_size,
                rows=pq.read_metadata(path).num_rows,
            )
            for path in sorted(self.folder.staged.rglob("*.parquet"))
        ]

    def release(self, manifest: Mapping[str, object] | None) -> None:
        """Replace the published files by the staged ones, and remove published files that are not staged.

        After release.json is written, the release is final: `finish_release` completes it if the process dies. The
        manifest is written last; it is None for the scores of a file. The files of another run, which `--fresh` left
        published, are kept in a sibling of the folder.
        """
        staged = self.folder.staged
        names = [p.relative_to(staged).as_posix() for p in staged.rglob("*") if is_file(p)]
        with disk_errors("cannot write", self.folder.path):
            for folder in (staged, *filter(is_folder, list_folder(staged))):
                sync_folder(folder)
        job = staged / self.folder.job.name
        if manifest is not None and exists(job):
            manifest = {**manifest, JOB_HASH: sha256(job)}
        superseded = None if manifest is None else _superseded(self.folder, manifest)
        record = {
            "files": sorted(names),
            "mode": self.mode,
            "manifest": manifest,
            "superseded": superseded,
        }
        self.folder.write_json(self.folder.release, record, stage="release")
        finish_release(self.folder)


def finish_release(folder: RunFolder) -> None:
    """Complete a release that a process began, if there is one. The caller holds the lock."""
    check_regular(folder.release)
    if not exists(folder.release):
        return
    record = read_json(folder.release)
    mode, names = record["mode"], set(record["files"])
    if superseded := record.get("superseded"):
        _keep_superseded(folder, superseded)
    with disk_errors("cannot write", folder.path):
        for name in sorted({name.split("/")[0] for name in names}):
            new = folder.staged / name
            if exists(new) or irregular(new):  # a link may lead nowhere
                _take(new, folder.path / name, mode)
        _remove_others(folder, names)
        sync_folder(folder.path)
    if record["manifest"] is not None:
        folder.write_json(folder.manifest, record["manifest"], stage="manifest", mode=mode)
    with disk_errors("cannot remove", folder.release):
        if exists(folder.staged):
            shutil.rmtree(folder.staged)
        folder.release.unlink()


def _superseded(folder: RunFolder, manifest: Mapping[str, object]) -> dict[str, object] | None:
    """The published files of another run, and the sibling that keeps them; None if this run published them, or nobody."""
    if not exists(folder.manifest):
        return None
    old = read_manifest(folder)
    if old.run_id == manifest["run_id"]:
        return None
    aside = folder.find_aside(old.run_id) or folder.new_aside()
    own = (folder.job, folder.manifest, folder.report)
    names = [*(file.name for file in old.files), *(path.name for path in own)]
    kept = [name for name in names if exists(folder.path / name)]
    return {"folder": aside.name, "files": kept}


def _keep_superseded(folder: RunFolder, superseded: Mapping[str, Any]) -> None:
    """Link the files of the old run into its folder, before any of them is replaced. May be repeated."""
    aside = folder.path.with_name(superseded["folder"])
    with disk_errors("cannot move the old run to", aside):
        for name in superseded["files"]:
            source, target = folder.path / name, aside / name
            if exists(target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(source)
            except OSError:  # a file system without hard links
                unfinished = target.with_name(f"{target.name}.tmp")
                shutil.copy2(source, unfinished)
                unfinished.replace(target)
        sync_folder(aside)


def _take(new: Path, target: Path, mode: int) -> None:
    if irregular(new) != "a folder":
        check_regular(new)
        if irregular(target) == "a folder":  # anything else is replaced
            check_regular(target)
        replace_durably(new, target, stage="publish", mode=mode)
        return
    for path in list_folder(new):
        check_regular(path)  # the mode of a link is that of what it names
        path.chmod(mode)
    new.chmod(folder_mode(mode))
    if not exists(target):
        fail_point("publish.before_rename")
        new.replace(target)
        fail_point("publish.after_rename")
        return
    for path in list_folder(new):  # file by file, so that the answers exist at every moment
        replace_durably(path, target / path.name, stage="publish", mode=mode)


def _remove_others(folder: RunFolder, names: Collection[str]) -> None:
    """Remove published files that are not in `names`, and a report about them."""
    for path in (*folder.published, folder.report, *list_folder(folder.response_parts)):
        if is_file(path) and path.relative_to(folder.path).as_posix() not in names:
            path.unlink()
    if is_folder(folder.response_parts) and not list_folder(folder.response_parts):
        folder.response_parts.rmdir()
