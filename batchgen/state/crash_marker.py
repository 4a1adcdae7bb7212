"""Whether the process that last worked on a run ended by itself, or died.

Knows nothing of what it was working on.
"""

from pathlib import Path

from batchgen.storage.durable import disk_errors


class CrashMarker:
    """A file that is there while a process works on the run, and stays if it dies: `unlink` works on a full disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def died(self) -> bool:
        """Whether the last process left it. If the machine itself went down, no row is to blame."""
        try:
            return self._path.read_text("utf-8", "replace") == boot_id()
        except FileNotFoundError:
            return False

    def begin(self) -> None:
        """A process works on the run from now on."""
        with disk_errors("cannot write", self._path):
            self._path.write_text(boot_id(), "utf-8")

    def end(self) -> None:
        """It ends in an orderly way, whatever went wrong."""
        self._path.unlink(missing_ok=True)


def boot_id() -> str:
    """What the kernel calls the time since it started; the same for all processes until the machine goes down."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return "unknown"
