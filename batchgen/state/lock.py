"""One run at a time in an output folder: a `flock`, held for the life of the run.

The kernel releases it when the process ends, however it ends. The content of the file is informative only. If the file
is deleted, another run can lock a new one; `RunLock.check` detects that before anything is committed.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from batchgen.errors import LockedError, ResourceError, StateError
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import check_regular, exists, irregular, list_folder

_SHOWN_SHARDS = 3
_SECONDS_BETWEEN_TRIES = 0.05


@dataclass(frozen=True, slots=True)
class RunLock:
    """A lock that this process holds."""

    path: Path
    descriptor: int

    def check(self) -> None:
        """Check that no other process can hold the folder.

        Raises:
            StateError: the file was deleted or replaced.
        """
        mine = os.fstat(self.descriptor)
        try:
            current = self.path.lstat()
        except OSError:
            current = None
        if not exists(self.path.parent):
            raise StateError(
                f"{self.path.parent} was deleted or moved while this run wrote to it",
                hint="Move it back, then run again to resume; answers in a deleted folder are lost.",
            )
        if current is None or (current.st_dev, current.st_ino) != (mine.st_dev, mine.st_ino):
            raise StateError(
                f"{self.path} was deleted while this run held it: another run may write to the folder",
                hint="Make sure that no other run uses the folder, then run again.",
            )


@contextmanager
def hold_lock(path: Path, *, writable: bool = True, shared: bool = False) -> Iterator[RunLock]:
    """Hold the lock while the block runs. Without `writable`, the file must exist, and does not get the owner's name.

    With `shared`, others may hold it so too: the shards of a run.

    Raises:
        LockedError: another process holds it.
        ResourceError: the filesystem does not support locks, or the file cannot be opened.
        StateError: there is something else than a file at its path.
    """
    check_regular(path)
    with disk_errors("cannot open the lock", path):
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        if writable and not shared:
            _write_owner(descriptor, path)
        yield RunLock(path, descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def wait_for_lock(path: Path, seconds: float = 600.0) -> Iterator[None]:
    """Hold the lock of a file that others hold for moments only.

    Raises:
        LockedError: another process holds it for longer than `seconds`.
    """
    check_regular(path)
    with disk_errors("cannot open the lock", path):
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
    try:
        until = time.monotonic() + seconds
        while not try_lock(descriptor, path, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise LockedError(
                    f"another process has locked {path} for {seconds:.0f} seconds",
                    hint="End the process that hangs, then run again.",
                )
            time.sleep(_SECONDS_BETWEEN_TRIES)
        yield
    finally:
        os.close(descriptor)


def _write_owner(descriptor: int, path: Path) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with disk_errors("cannot write the lock", path):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(owner).encode())


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock; False if this user may not read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False  # nobody has ever held it, or this user may not read it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # the file system has no locks, which `hold_lock` reports
    finally:
        os.close(descriptor)
    return False


def is_running(path: Path) -> bool:
    """Whether another process holds the lock. Unlike `is_locked`, it does not touch the lock of a process that has died."""
    if irregular(path):
        return False
    if any(is_held(shard) for shard in list_folder(path.parent / "shards", ".json")):
        return True
    try:
        owner = json.loads(path.read_text())
        here = owner["host"] == socket.gethostname()
        if here and (owner["pid"] == os.getpid() or not _is_alive(owner["pid"])):
            return False
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
    return is_locked(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # a process of another user
        return True
    except ProcessLookupError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether another process holds the exclusive lock of a file; False if it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not try_lock(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, kind: int) -> None:
    if try_lock(descriptor, path, kind):
        return
    hint = "Wait until it ends, or choose another folder with --output."
    if running := [p.stem for p in list_folder(path.parent / "shards", ".json") if is_held(p)]:
        listed = ", ".join(running[:_SHOWN_SHARDS])
        more = f" and {len(running) - _SHOWN_SHARDS:,} more" if len(running) > _SHOWN_SHARDS else ""
        raise LockedError(f"shards are running in {path.parent.parent}: {listed}{more}", hint=hint)
    raise LockedError(f"another run has locked {path.parent.parent}{_owner(descriptor)}", hint=hint)


def try_lock(descriptor: int, path: Path, kind: int) -> bool:
    """Lock an open file, exclusively or shared; False if another process holds it.

    Raises:
        ResourceError: the filesystem does not support locks.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise ResourceError(
            f"the filesystem of {path.parent.parent} does not support file locks",
            hint="Choose a folder on a local disk with --output FOLDER.",
        ) from error
    return True


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return ""  # the owner holds the lock, but has not written its name yet
