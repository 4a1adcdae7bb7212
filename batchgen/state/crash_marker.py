"""A marker file that shows whether the last process of a run exited or was killed."""

from pathlib import Path

from batchgen.storage.durable import disk_errors, open_private, read_errors
from batchgen.storage.entries import check_regular


class CrashMarker:
    """A file that exists while a process works on the run, and remains if the process is killed.

    Deleting it works even on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def died(self) -> bool:
        """Whether the last process was killed since the machine booted. After a reboot no row is suspected."""
        check_regular(self._path)
        with read_errors(self._path):
            try:
                return self._path.read_text("utf-8", "replace") == boot_id()
            except FileNotFoundError:
                return False

    def begin(self) -> None:
        with disk_errors("cannot write", self._path):
            self._path.unlink(missing_ok=True)
            with open_private(self._path) as file:
                file.write(boot_id().encode())

    def end(self) -> None:
        with disk_errors("cannot delete", self._path):
            self._path.unlink(missing_ok=True)


def boot_id() -> str:
    """The kernel's id of the current boot; "unknown" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return "unknown"
