"""From sealed parts to the files that people read: verify, write, fsync, rename, and the manifest last.

Nothing in progress is visible: until a file is whole it lies in the private folder under a name that no reader
takes for Parquet. Knows nothing of how the answers were made.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchgen.data.durable import (
    disk_errors,
    replace_durably,
    sha256,
    sync_file,
    sync_folder,
    temporary_name,
)
from batchgen.data.failpoints import fail_point
from batchgen.data.folder import RunFolder
from batchgen.data.parts import SealedPart, file_metadata, parquet_options, stream_parts
from batchgen.errors import StateError
from batchgen.job.spec import Output

ROW_GROUP_BYTES = 16 << 20
"""Parts are joined into row groups of about this size in memory: parts are small, readers like larger ones, and memory is to stay flat."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """One file that readers may open; `name` is relative to the run's folder."""

    name: str
    sha256: str
    bytes: int
    rows: int


def publish(
    folder: RunFolder,
    parts: Mapping[int, SealedPart],
    schema: pa.Schema,
    *,
    output: Output,
    facts: Mapping[str, object],
) -> list[PublishedFile]:
    """Put the answers where readers find them. The manifest is the caller's next step.

    Args:
        folder: the run's folder.
        parts: every part of the run.
        schema: the output's columns.
        output: layout, compression and permissions.
        facts: what the files' metadata says about their origin; holds nothing that differs from a resumed run.

    Raises:
        StateError: a part is damaged; nothing is published.
        ResourceError: the disk refused; nothing is published.
    """
    schema = schema.with_metadata(file_metadata(facts))
    mode = int(output.file_mode, 8)
    if output.layout == "parts":
        return _publish_parts(folder, parts, schema, output)
    temporary = temporary_name(folder.scratch)
    with disk_errors("cannot write", folder.responses):
        try:
            rows = _write(temporary, stream_parts(parts), schema, output.compression)
            replace_durably(temporary, folder.responses, stage="publish", mode=mode)
        finally:
            temporary.unlink(missing_ok=True)
        return [_described(folder, folder.responses, rows)]


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


def _publish_parts(
    folder: RunFolder, parts: Mapping[int, SealedPart], schema: pa.Schema, output: Output
) -> list[PublishedFile]:
    mode = int(output.file_mode, 8)
    staging = temporary_name(folder.scratch)
    rows: list[int] = []
    with disk_errors("cannot write", folder.response_parts):
        staging.mkdir()
        for number, table in enumerate(stream_parts(parts)):
            path = staging / f"part-{number:05d}.tmp"
            rows.append(_write(path, [table], schema, output.compression))
            path.chmod(mode)
            path.rename(path.with_suffix(".parquet"))
        sync_folder(staging)
        # A folder is readable to those who may read its files.
        staging.chmod(mode | (mode & 0o444) >> 2 | 0o700)
        fail_point("publish.before_rename")
        if (
            folder.response_parts.exists()
        ):  # an earlier publication: a folder cannot be renamed over another
            folder.response_parts.rename(temporary_name(folder.scratch))
        staging.replace(folder.response_parts)
        fail_point("publish.after_rename")
        sync_folder(folder.path)
    written = sorted(folder.response_parts.iterdir())
    return [_described(folder, path, n) for path, n in zip(written, rows, strict=True)]


def _write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, compression: str) -> int:
    rows = 0
    with pq.ParquetWriter(path, schema, **parquet_options(compression)) as writer:
        for group in _groups(tables):
            table = group.cast(schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            rows += table.num_rows
            fail_point("publish.half")
    fail_point("publish.before_sync")
    sync_file(path)
    return rows


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(t.nbytes for t in waiting) >= ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _described(folder: RunFolder, path: Path, rows: int) -> PublishedFile:
    name = path.relative_to(folder.path).as_posix()
    return PublishedFile(name, sha256(path), path.stat().st_size, rows)
