"""What is in the way of a folder or a file that is to be created: a file, pipe or link in place of a folder."""

import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFREG: "a file",
}


def kind_of_entry(mode: int) -> str:
    """What a file mode is that of, such as "a pipe"."""
    return _KINDS.get(stat.S_IFMT(mode), "a device or socket")


def find_obstacle(folder: Path) -> str:
    """Why there is no folder at `folder`, such as "out is a pipe; expected a folder"; empty if nothing is in its way."""
    place = _nearest(folder)
    try:
        mode = place.stat().st_mode
    except OSError:
        return f"{place} is a link to {place.readlink()}, which does not exist"
    return "" if stat.S_ISDIR(mode) else f"{place} is {kind_of_entry(mode)}; expected a folder"


def find_missing_folder(file: Path) -> Path | None:
    """The highest folder above `file` that does not exist; None if all exist."""
    nearest = _nearest(file)
    missing = [place for place in file.parents if place.is_relative_to(nearest)]
    return missing[-2] if len(missing) > 1 else None


def _nearest(path: Path) -> Path:
    """The lowest entry that exists of a path and the folders above it; links count as they are."""
    for place in (path, *path.parents):
        if os.path.lexists(place):
            return place
    return path
