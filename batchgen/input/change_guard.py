"""Whether the input is still what was surveyed: a look at each file at every seam, a hash of it where it looks new.

A file that was only touched, linked or replaced by its own copy is no other file. Knows nothing of what is inside.
"""

from collections.abc import Sequence
from pathlib import Path

from batchgen.errors import DataError
from batchgen.input.sources import SurveyedFile
from batchgen.storage.durable import sha256

_Seen = tuple[int, int, int, int]
"""Size, times of the last change of content and of anything, inode. Nobody can set the second time."""


class ChangeGuard:
    """Watches the files of a survey."""

    def __init__(self, files: Sequence[SurveyedFile]) -> None:
        self._files = files
        self._seen: dict[Path, _Seen] = {}

    def look(self) -> None:
        """Look at each file; read those that look different from the last time.

        Raises:
            DataError: a file is not what it was.
        """
        for file in self._files:
            now = _seen(file.path)
            if self._seen.get(file.path) != now:
                self._compare(file)
                self._seen[file.path] = now

    def read(self) -> None:
        """Read each file again, however it looks.

        Raises:
            DataError: a file is not what it was.
        """
        for file in self._files:
            self._compare(file)

    def _compare(self, file: SurveyedFile) -> None:
        try:
            same = sha256(file.path) == file.sha256
        except OSError as error:
            raise DataError(
                f"{file.path}: cannot be read any more: {error.strerror}", hint=_WAY_OUT
            ) from error
        if not same:
            raise DataError(f"{file.path}: changed while the run was using it", hint=_WAY_OUT)


_WAY_OUT = "Nothing was published. Put the old file back and run again to go on, or start over with --fresh."


def _seen(path: Path) -> _Seen:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read any more: {error.strerror}", hint=_WAY_OUT
        ) from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
