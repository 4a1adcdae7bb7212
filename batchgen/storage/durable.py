"""Atomic and durable files: temporary name, fsync, rename or link, fsync of the folder.

    write_durably    replaces a file atomically
    create_durably   creates a file atomically, and never overwrites
    commit_new       gives a finished temporary file its final name, and never overwrites

These functions raise OSError; their callers convert it with `disk_errors`.
"""

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from batchgen.errors import ResourceError, StateError
from batchgen.storage.failpoints import fail_point
from batchgen.storage.obstacles import find_missing_folder, find_obstacle

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}


_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
"""Errors of a place where nothing may be written, also in files that exist."""
_NO_PLACE = _FORBIDDEN.union(
    (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
)
"""Errors of a path at which nothing can be written, whatever the state of the disk."""


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Convert an OSError in the block to a ResourceError; `action` begins the message, such as "cannot write".

    A folder in place of a file is a StateError: the disk is not the cause.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _DISK_FULL:
            raise disk_full_error(action, path, reason) from error
        if error.errno == errno.EISDIR and isinstance(error.filename, str | bytes):
            name, hint = os.fsdecode(error.filename), "Move it away, then repeat the command."
            raise StateError(f"{name} is a folder; expected a file", hint=hint) from error
        if error.errno in _NO_PLACE:
            raise _no_place_error(action, path, error) from error
        raise disk_error(action, path, reason) from error


def _no_place_error(action: str, path: Path, error: OSError) -> ResourceError:
    """The error for a path at which nothing can be written: names what is in its way."""
    hint = "Choose a writable folder with --output FOLDER, or with output.path in the job."
    found = find_obstacle(path.parent)
    if error.errno not in _FORBIDDEN:
        found = found or find_obstacle(path)
    if found:
        hint = "Move it away, or choose another folder with --output FOLDER."
        return ResourceError(f"{action} {path}: {found}", hint=hint)
    # The file that the system refused may be a temporary one, in another folder.
    refused = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    if missing := find_missing_folder(path) or find_missing_folder(refused):
        hint = "Move it back if it was moved; then repeat the command, which makes a new one if there is none."
        return ResourceError(f"{action} {path}: the folder {missing} is gone", hint=hint)
    return ResourceError(f"{action} {path}: {error.strerror}", hint=hint)


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Convert an OSError in the block, which only reads, to a ResourceError."""
    try:
        yield
    except PermissionError as error:
        raise not_permitted(path) from error
    except OSError as error:
        raise disk_error("cannot read", path, error.strerror or str(error)) from error


def check_path_is_text(path: Path) -> None:
    """Raise ResourceError if a name in the path is not UTF-8: Arrow cannot open it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        hint = "Rename the folder, or move the run to another one."
        raise ResourceError(f"the name of a folder is not UTF-8: {path}", hint=hint) from error


def not_permitted(path: Path) -> ResourceError:
    """The error for a file of another user that this user may not read."""
    hint = f"Read it as its owner, or ask the owner for access to {path.name}."
    return ResourceError(f"cannot read {path}: Permission denied", hint=hint)


def disk_full_error(action: str, path: Path, reason: str = "no space left") -> ResourceError:
    """The error for a full disk or an exhausted quota."""
    hint = "Free some space or raise the quota, then repeat the command to resume."
    return ResourceError(f"{action} {path}: {reason}", hint=hint)


def disk_error(action: str, path: Path, reason: str) -> ResourceError:
    """The error for a failed disk operation."""
    hint = "Check the disk, then repeat the command to resume."
    return ResourceError(f"{action} {path}: {reason}", hint=hint)


def temporary_name(folder: Path) -> Path:
    """A unique path in `folder`. It does not end in .parquet, so that readers of the folder ignore it."""
    return folder / f"{uuid.uuid4().hex}.tmp"


def open_private(path: Path) -> BinaryIO:
    """Create a file for writing that only its owner may read, whatever the umask."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def sync_file(path: Path) -> None:
    """Flush a file to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, which makes a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(
    target: Path, content: bytes, *, scratch: Path, stage: str = "", mode: int = 0o600
) -> None:
    """Write `target` atomically: after an OSError the old file is unchanged.

    `scratch` is a folder on the same filesystem; `stage` is the prefix of the fail points.
    """
    with _written(content, scratch, stage) as temporary:
        replace_durably(temporary, target, stage=stage, mode=mode)


@contextmanager
def _written(content: bytes, scratch: Path, stage: str) -> Iterator[Path]:
    """A new synced file with this content, which is deleted after the block unless that renames it."""
    temporary = temporary_name(scratch)
    try:
        with open_private(temporary) as file:
            file.write(content[: len(content) // 2])
            file.flush()
            fail_point(f"{stage}.half")
            file.write(content[len(content) // 2 :])
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def replace_durably(temporary: Path, target: Path, *, stage: str, mode: int) -> None:
    """Rename a synced temporary file to `target`."""
    temporary.chmod(mode)
    fail_point(f"{stage}.before_rename")
    temporary.replace(target)
    fail_point(f"{stage}.after_rename")
    sync_folder(target.parent)


def create_durably(target: Path, content: bytes, *, scratch: Path, stage: str) -> bool:
    """Write a new file atomically; whether it was new. A file that exists is left as it is.

    `scratch` is a folder on the same filesystem; `stage` is the prefix of the fail points.
    """
    with _written(content, scratch, stage) as temporary:
        fail_point(f"{stage}.before_rename")
        try:
            _link_new(temporary, target)
        except FileExistsError:
            return False
        fail_point(f"{stage}.after_rename")
        sync_folder(target.parent)
    return True


def commit_new(temporary: Path, target: Path) -> None:
    """Give a synced temporary file its final name; FileExistsError if the target exists."""
    fail_point("part.before_link")
    _link_new(temporary, target)
    fail_point("part.after_link")
    sync_folder(target.parent)
    fail_point("part.after_folder_sync")
    temporary.unlink(missing_ok=True)


def _link_new(temporary: Path, target: Path) -> None:
    """Give a file a second name; FileExistsError if another file has it."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        # A server of files may lose its answer to the first request, and answer the repeated one.
        if not target.samefile(temporary):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A filesystem without hard links, on which only one process at a time may commit.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "file exists", str(target)) from error
        temporary.rename(target)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
