"""Detection of input files that change during a run. A file is hashed again only if its status has changed.

A file that was only touched, linked or replaced by its own copy counts as unchanged.
"""

from collections.abc import Sequence
from pathlib import Path

from batchgen.errors import DataError
from batchgen.input.sources import SurveyedFile
from batchgen.storage.durable import sha256

_RESTORE_HINT = (
    "Nothing was published. Restore the old file and run again, or start over with --fresh."
)
_Status = tuple[int, int, int, int]
"""Size, mtime, ctime, inode. Programs cannot set ctime."""


class ChangeGuard:
    """Detects changes of surveyed files. Its methods raise DataError if the content of a file has changed."""

    def __init__(self, files: Sequence[SurveyedFile]) -> None:
        self._files = files
        self._status: dict[Path, _Status] = {}

    def check(self) -> None:
        """Hash the files whose status has changed since the last call."""
        for file in self._files:
            now = _read_status(file.path)
            if self._status.get(file.path) != now:
                self._compare(file)
                self._status[file.path] = now

    def rehash(self) -> None:
        """Hash all files."""
        for file in self._files:
            self._compare(file)

    def _compare(self, file: SurveyedFile) -> None:
        try:
            same = sha256(file.path) == file.sha256
        except OSError as error:
            raise DataError(
                f"{file.path}: can no longer be read: {error.strerror}", hint=_RESTORE_HINT
            ) from error
        if not same:
            raise DataError(f"{file.path}: changed while the run was using it", hint=_RESTORE_HINT)


def _read_status(path: Path) -> _Status:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: can no longer be read: {error.strerror}", hint=_RESTORE_HINT
        ) from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
