"""Paths, folders and globs, down to the files that they mean. Knows nothing of formats.

A folder means the files in it, at any depth, sorted by path, without names that begin with a dot or an underscore.
"""

import difflib
import glob
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from batchgen.errors import DataError


@dataclass(frozen=True, slots=True)
class PathMatch:
    """A path on disk, the folder below which `key=value` folders count, and whether it was named itself."""

    path: Path
    root: Path
    named: bool


def expand_path(text: str) -> list[PathMatch]:
    """The files that a path, folder or glob means.

    Raises:
        DataError: nothing there, or links that lead in a circle.
    """
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if glob.has_magic(text):
            return _expand_glob(text)
        raise missing_path_error(path, error) from error
    if stat.S_ISDIR(mode):
        return [PathMatch(file, path, named=False) for file in _walk(path)]
    return [PathMatch(path, path.parent, named=True)]


def _expand_glob(text: str) -> list[PathMatch]:
    parts = Path(text).parts
    plain = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root, patterns = Path(*parts[:plain]), parts[plain:]
    try:
        matches = sorted(root.glob(str(Path(*patterns))))
    except ValueError as error:
        raise DataError(
            f"{text}: is not a pattern of paths",
            hint="** stands alone between slashes, as in data/**/*.csv.",
        ) from error
    found: list[PathMatch] = []
    for match in matches:
        if _is_hidden(match.relative_to(root).parts, patterns):
            continue
        if not match.is_dir():
            found.append(PathMatch(match, root, named=True))
        elif patterns[-1] != "**":
            found += [PathMatch(file, root, named=False) for file in _walk(match)]
    return found


def _is_hidden(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether a name begins with a dot or underscore that the pattern does not ask for."""
    return any(
        name.startswith(mark) and not any(p.startswith(mark) and fnmatch(name, p) for p in patterns)
        for name in names
        for mark in (".", "_")
    )


def _walk(folder: Path) -> list[Path]:
    """Files below a folder, sorted by path. Links to folders are followed, once."""
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
                    f"{path}: is a link to a folder above it, so that it never ends",
                    hint="Remove the link, or name the files by a glob.",
                )
            waiting.append((path, above | {folder_id}))
    return sorted(files)


def _listing(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error


def file_identity(path: Path) -> tuple[int, int]:
    """What two names of the same file have in common: device and number."""
    status = path.stat()
    return status.st_dev, status.st_ino


def missing_path_error(path: Path, error: OSError | ValueError) -> DataError:
    """The error for a path that cannot be looked at, with the nearest name beside it."""
    reason = (error.strerror or "cannot be read") if isinstance(error, OSError) else str(error)
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        names = []
    near = difflib.get_close_matches(path.name, names, n=1)
    return DataError(
        f"{path}: {reason.lower()}",
        hint=f"Did you mean {near[0]}?"
        if near
        else "Check input.path; it is relative to the job file.",
    )
