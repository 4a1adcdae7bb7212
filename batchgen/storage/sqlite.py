"""SQLite with durable transactions and our error types; moving damaged databases aside."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from batchgen.errors import ResourceError, StateError
from batchgen.storage.durable import disk_error, disk_errors, disk_full_error
from batchgen.storage.entries import check_regular, exists, irregular

_DISK = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
}


def connect(path: Path, schema: str) -> sqlite3.Connection:
    """Open or create a database that survives a kill and a power cut. The caller begins transactions.

    Raises:
        ResourceError: the disk is full or failed.
        StateError: the file is damaged.
    """
    for file in files_of(path):
        check_regular(file)
    with disk_errors("cannot open", path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    with translate_errors("open", path):
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(schema)
        except BaseException:
            database.close()
            raise
    return database


_SAFE_PATH = 500
"""Bytes of a path that every build of SQLite opens."""


@contextmanager
def translate_errors(action: str, path: Path) -> Iterator[None]:
    """Convert errors of SQLite and the disk in the block; "cannot" and `action` begin the message.

    Raises:
        ResourceError: the disk is full or failed.
        StateError: the file is damaged.
    """
    try:
        with disk_errors(f"cannot {action}", path):
            yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise disk_full_error(f"cannot {action}", path) from error
        if code == sqlite3.SQLITE_CANTOPEN and (size := len(os.fsencode(path))) > _SAFE_PATH:
            raise ResourceError(
                f"cannot {action} {path}: SQLite cannot open a path of {size:,} bytes",
                hint="Choose a shorter path with --output FOLDER, or with output.path in the job.",
            ) from error
        if code in _DISK:
            raise disk_error(f"cannot {action}", path, str(error)) from error
        raise StateError(
            f"{path} is damaged: {error}",
            hint="Run again. The file is then moved aside, and its rows are generated again.",
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a damaged database to NAME.damaged-1, -2 …, delete its log, and return the new path."""
    number = 1
    while exists(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    with disk_errors("cannot move aside", path):
        with suppress(FileNotFoundError):  # only its log is damaged
            path.rename(aside)
        for log in files_of(path)[1:]:
            if irregular(log) == "a folder":
                log.rename(log.with_name(log.name.replace(path.name, aside.name)))
            else:
                log.unlink(missing_ok=True)
    return aside


def remove(path: Path) -> None:
    """Delete a closed database.

    Raises:
        StateError: there is a folder at its path.
        ResourceError: the disk refuses.
    """
    with disk_errors("cannot delete", path):
        for file in files_of(path):
            # On a read-only disk not even an absent file can be deleted.
            if exists(file) or irregular(file):
                file.unlink(missing_ok=True)


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, even while a process writes it, and on a file system that is mounted read-only.

    Raises:
        StateError: there is something else than a file at its path.
        sqlite3.Error: it cannot be read.
    """
    for file in files_of(path):
        check_regular(file)
    log = path.with_name(f"{path.name}-wal")
    if os.access(path.parent, os.W_OK):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            yield database
    elif not exists(log) or not log.stat().st_size:
        # SQLite opens a database with a log only where it can create the file for shared memory.
        with closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as database:
            yield database
    else:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            shutil.copyfile(log, copy.with_name(log.name))
            with closing(sqlite3.connect(copy)) as database:
                yield database


def files_of(path: Path) -> list[Path]:
    """The files of a database: itself, its log, and the index of the log."""
    return [path.with_name(path.name + ending) for ending in ("", "-wal", "-shm")]
