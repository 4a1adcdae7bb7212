"""Paths, folders and globs, resolved to files."""

import difflib
import glob
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from batchgen.errors import DataError
from batchgen.input.remote_files import expand_url
from batchgen.storage.remote.bucket import RemoteObject
from batchgen.storage.remote.object_url import is_object_url


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A file of the input. `key=value` folders count below `root`; `is_explicit` is False for files of a folder.

    The path of a remote object is its name below `root`, which is empty.
    """

    path: Path
    root: Path
    is_explicit: bool
    remote: RemoteObject | None = None

    @property
    def label(self) -> str:
        """The file in messages."""
        return str(self.remote.url if self.remote else self.path)


def expand_path(text: str) -> list[PathMatch]:
    """The files of a path, folder or glob, or of an address; DataError if nothing is there, or for a symlink loop."""
    if is_object_url(text):
        return [
            PathMatch(Path(one.name), Path(), one.is_explicit, one.object)
            for one in expand_url(text)
        ]
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if glob.has_magic(text):
            return _expand_glob(text)
        raise missing_path_error(path, error) from error
    if stat.S_ISDIR(mode):
        return [PathMatch(file, path, is_explicit=False) for file in _files_below(path)]
    return [PathMatch(path, path.parent, is_explicit=True)]


def _expand_glob(text: str) -> list[PathMatch]:
    parts = Path(text).parts
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root, patterns = Path(*parts[:plain]), parts[plain:]
    try:
        matches = sorted(root.glob(str(Path(*patterns))))
    except ValueError as error:
        raise DataError(
            f"{text}: is not a valid glob",
            hint="Write ** only as a whole path component, such as data/**/*.csv.",
        ) from error
    files: list[PathMatch] = []
    for match in matches:
        if _is_hidden(match.relative_to(root).parts, patterns):
            continue
        if not match.is_dir():
            files.append(PathMatch(match, root, is_explicit=True))
        elif patterns[-1] != "**":
            files += [PathMatch(file, root, is_explicit=False) for file in _files_below(match)]
    return files


def _is_hidden(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a name begins with a dot or underscore that no pattern begins with."""
    return any(
        name.startswith(mark) and not any(p.startswith(mark) and fnmatch(name, p) for p in patterns)
        for name in names
        for mark in (".", "_")
    )


def _files_below(folder: Path) -> list[Path]:
    """Files below a folder, sorted by path. Links to folders are followed."""
    files: list[Path] = []
    waiting = [(folder, frozenset([file_identity(folder)]))]
    while waiting:
        here, above = waiting.pop()
        for path in _listing(here):
            if path.name.startswith((".", "_")):
                continue
            if not path.is_dir():
                files.append(path)
                continue
            folder_id = file_identity(path)
            if folder_id in above:
                raise DataError(
                    f"{path}: symlink loop: points to a parent folder",
                    hint="Remove the link, or give a glob in input.path.",
                )
            waiting.append((path, above | {folder_id}))
    return sorted(files)


def _listing(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def file_identity(path: Path) -> tuple[int, int]:
    """Device and inode of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def missing_path_error(path: Path, error: OSError | ValueError) -> DataError:
    """The error for a path that cannot be accessed, with the most similar name in its folder as a hint."""
    reason = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        names = []
    near = difflib.get_close_matches(path.name, names, n=1)
    hint = (
        f"Did you mean {near[0]}?" if near else "Check input.path: it is relative to the job file."
    )
    return DataError(f"{path}: {reason.lower()}", hint=hint)
