"""One run at a time in an output folder: `flock`, held for the life of the run, never expired by age.

The kernel lets go of it when the process ends, however it ends. What the file says is for people. If somebody deletes
the file, another run can take a new one: whoever holds the old one finds out before it commits anything.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from batchgen.errors import LockedError, ResourceError, StateError
from batchgen.storage.durable import disk_errors


@dataclass(frozen=True, slots=True)
class RunLock:
    """A lock that this process holds."""

    path: Path
    descriptor: int

    def check(self) -> None:
        """Make sure that the file is still there, so that nobody else can hold the folder.

        Raises:
            StateError: it was deleted or replaced.
        """
        mine = os.fstat(self.descriptor)
        try:
            there = self.path.lstat()
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise StateError(
                f"{self.path} was deleted while this run held it: another run may write to the folder",
                hint="Nothing more was saved. See that no other run is at work there, then run again.",
            )


@contextmanager
def hold_lock(path: Path) -> Iterator[RunLock]:
    """Hold the lock while the block runs.

    Raises:
        LockedError: another process holds it.
        ResourceError: the filesystem knows no locks, or the file cannot be opened.
    """
    with disk_errors("cannot open the lock", path):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
    try:
        _take(descriptor, path)
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with disk_errors("cannot write the lock", path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(owner).encode())
        yield RunLock(path, descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(
            f"another run holds {path.parent.parent}{_owner(descriptor)}",
            hint="Wait for it to end, or write elsewhere with --output.",
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise ResourceError(
            f"the filesystem of {path.parent.parent} knows no file locks",
            hint="Write to a local disk: --output FOLDER.",
        ) from error


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return ""  # the owner has not written its name yet; the lock holds all the same
