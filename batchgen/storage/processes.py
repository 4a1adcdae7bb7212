"""Several processes on one machine: one works while the others wait, and a child ends with its parent."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LONGEST_WAIT = 600.0
"""Seconds. A process that was suspended while it held a lock does not hold up the others for ever."""
_PR_SET_PDEATHSIG = 1
"""From Linux's <sys/prctl.h>."""


@contextmanager
def one_process_at_a_time(lock: Path, *, longest_wait: float = _LONGEST_WAIT) -> Iterator[None]:
    """Run the block while no other process runs it with this lock file.

    For work whose result is cached: a lock only saves work, so the block also runs if the folder cannot hold a lock, or
    after `longest_wait` seconds. The operating system releases the lock of a process that dies.
    """
    with ExitStack() as held:
        with suppress(OSError, NotImplementedError, Timeout):
            lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A file in place of a lock would outlive a killed process.
            file = FileLock(lock, timeout=longest_wait, fallback_to_soft=False)
            held.enter_context(file)
        yield


def end_with_parent(parent: int) -> None:
    """End this process when its parent, with this process id, ends for any reason; only on Linux."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)
