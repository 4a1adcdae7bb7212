"""SQLite with durable transactions and our error types; moving damaged databases aside."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchgen.errors import StateError
from batchgen.storage.durable import disk_error, disk_errors, disk_full_error

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
    with disk_errors("cannot open", path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with translate_errors("open", path):
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(schema)
        except BaseException:
            database.close()
            raise
    return database


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
        if code in _DISK:
            raise disk_error(f"cannot {action}", path, str(error)) from error
        raise StateError(
            f"{path} is damaged: {error}",
            hint="Run again. The file is then moved aside, and its rows are generated again.",
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a damaged database to NAME.damaged-1, -2 …, delete its log, and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with disk_errors("cannot move aside", path):
        path.rename(aside)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    return aside


def remove(path: Path) -> None:
    """Delete a closed database."""
    with disk_errors("cannot delete", path):
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
