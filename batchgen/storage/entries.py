"""Look at entries of the file system, for callers to whom a hidden entry is absent.

`pathlib` raises PermissionError for an entry in a folder that the user may not enter, and OSError for a name that is too
long. These functions have one rule for both.
"""

import errno
import stat
from pathlib import Path

from batchgen.errors import StateError
from batchgen.storage.durable import read_errors
from batchgen.storage.obstacles import kind_of_entry

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EBADF}
_HIDDEN = {errno.EACCES, errno.EPERM}


def exists(path: Path) -> bool:
    """Whether this user can see an entry at `path`; a link counts as what it leads to.

    An entry in a folder that the user may not enter counts as absent. ResourceError if the disk fails.
    """
    return _mode(path) is not None


def is_file(path: Path) -> bool:
    """Whether this user can see a regular file at `path`; see `exists`."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: Path) -> bool:
    """Whether this user can see a folder at `path`; see `exists`."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def irregular(path: Path) -> str:
    """What is at `path` instead of a regular file, such as "a link"; empty for a file, and where there is nothing.

    Links are not followed. To open a pipe would wait for ever, and what a device contains has no end.
    """
    mode = _mode(path, follow=False)
    if mode is None or stat.S_ISREG(mode):
        return ""
    return kind_of_entry(mode)


def check_regular(path: Path) -> None:
    """Raise StateError if there is anything but a regular file at `path`; see `irregular`."""
    if found := irregular(path):
        raise StateError(
            f"{path} is {found}; expected a file",
            hint="Move it away, then repeat the command.",
        )


def list_folder(folder: Path, suffix: str = "") -> list[Path]:
    """The entries of a folder whose names end in `suffix`, sorted; none if it is absent or may not be read.

    The folder's own name is never a pattern. ResourceError if the disk fails.
    """
    with read_errors(folder):
        try:
            return sorted(path for path in folder.iterdir() if path.name.endswith(suffix))
        except OSError as error:
            if error.errno in _ABSENT | _HIDDEN:
                return []
            raise


def _mode(path: Path, *, follow: bool = True) -> int | None:
    with read_errors(path):
        try:
            return path.stat(follow_symlinks=follow).st_mode
        except OSError as error:
            if error.errno in _ABSENT | _HIDDEN:
                return None
            raise
        except ValueError:  # a null byte in the name
            return None
