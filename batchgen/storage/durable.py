"""Files that are there whole or not at all, and stay there: temporary name, fsync, rename or link, fsync the folder.

    write_durably    replaces a file in one step: a reader sees the old one or the new one
    commit_new       gives a finished temporary file its final name, and never overwrites

Knows nothing of what is inside a file. Errors of the operating system become `ResourceError` at the edge that calls.
"""

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchgen.errors import ResourceError
from batchgen.storage.failpoints import fail_point

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


@contextmanager
def disk_errors(doing: str, place: Path) -> Iterator[None]:
    """Turn an OSError under it into a ResourceError that says what was being done, and where."""
    try:
        yield
    except OSError as error:
        raise _translated(error, doing, place) from error


def _translated(error: OSError, doing: str, place: Path) -> ResourceError:
    why = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return disk_full_error(doing, place, why)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "Choose a folder that you may write to: --output FOLDER, or output.path in the job."
        return ResourceError(f"{doing} {place}: {why}", hint=hint)
    return disk_error(doing, place, why)


def disk_full_error(doing: str, place: Path, why: str = "no space left") -> ResourceError:
    """The error for a disk, or a quota, that is full."""
    hint = "Free some space or raise the quota; the same command then goes on from what is saved."
    return ResourceError(f"{doing} {place}: {why}", hint=hint)


def disk_error(doing: str, place: Path, why: str) -> ResourceError:
    """The error for a disk that does not do as it is told."""
    hint = "Check the disk; the same command then goes on from what is saved."
    return ResourceError(f"{doing} {place}: {why}", hint=hint)


def temporary_name(folder: Path) -> Path:
    """A name in `folder` that nobody else uses. Never ends in .parquet: readers pick those up."""
    return folder / f"{uuid.uuid4().hex}.tmp"


def sync_file(path: Path) -> None:
    """Have the operating system put the file's content on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the operating system put the folder's entries on the disk: what makes a rename last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(
    target: Path, content: bytes, *, scratch: Path, stage: str = "", mode: int = 0o600
) -> None:
    """Write `target` in one step. `scratch` is a folder on the same filesystem; `stage` names fail points, if any.

    Raises:
        OSError: as the operating system says; the old file is then untouched.
    """
    temporary = temporary_name(scratch)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            fail_point(f"{stage}.half")
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())
        replace_durably(temporary, target, stage=stage, mode=mode)
    finally:
        temporary.unlink(missing_ok=True)


def replace_durably(temporary: Path, target: Path, *, stage: str, mode: int) -> None:
    """Rename a finished, synced temporary file over `target`."""
    temporary.chmod(mode)
    fail_point(f"{stage}.before_rename")
    temporary.replace(target)
    fail_point(f"{stage}.after_rename")
    sync_folder(target.parent)


def commit_new(temporary: Path, target: Path) -> None:
    """Give a finished, synced temporary file its final name: the moment it counts.

    Raises:
        FileExistsError: something has that name already; it is left as it is.
        OSError: as the operating system says.
    """
    fail_point("part.before_link")
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A filesystem without hard links. Only one process commits here (it holds the run's lock), so a look
        # before the rename cannot race.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "file exists", str(target)) from error
        temporary.rename(target)
    fail_point("part.after_link")
    sync_folder(target.parent)
    fail_point("part.after_folder_sync")
    temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of the file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
