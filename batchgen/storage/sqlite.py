"""SQLite at its most careful, its errors in our words; what to do with a file that it cannot read.

Knows nothing of what is in a database.
"""

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
    """Open or create a database that survives a kill and a power cut. Transactions are begun by hand.

    Raises:
        ResourceError: the disk refused.
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
def translate_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say under it into our own errors.

    Raises:
        ResourceError: the disk refused.
        StateError: the file is damaged.
    """
    try:
        with disk_errors(f"cannot {doing}", path):
            yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise disk_full_error(f"cannot {doing}", path) from error
        if code in _DISK:
            raise disk_error(f"cannot {doing}", path, str(error)) from error
        raise StateError(
            f"{path} is damaged: {error}",
            hint="Run again: it is set aside then, and its rows are answered again.",
        ) from error


def set_aside(path: Path) -> Path:
    """Move a database that cannot be read out of the way, together with its log."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with disk_errors("cannot set aside", path):
        path.rename(aside)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    return aside


def remove(path: Path) -> None:
    """Delete a closed database."""
    with disk_errors("cannot delete", path):
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
