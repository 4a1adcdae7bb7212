"""The proof that a folder which batchgen made is whole: a file, written last, that names every other with its size.

Knows nothing of models.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from batchgen.models.demo.wheel import sha256_of

MARKER = "batchgen-model.json"
CONVERSION = 1
"""Raised when convert.py writes something else from the same source: folders are then made again."""


def write_marker(folder: Path, facts: Mapping[str, str]) -> None:
    """Declare the folder whole as it is now, with `facts` about where it came from, and flush that to disk."""
    files = {
        file.name: {"size": file.stat().st_size, "sha256": sha256_of(file)}
        for file in sorted(folder.iterdir())
    }
    with (folder / MARKER).open("w", encoding="utf-8") as marker:
        json.dump({"conversion": CONVERSION, **facts, "files": files}, marker, indent=2)
        marker.write("\n")
        marker.flush()
        os.fsync(marker.fileno())


def is_intact(folder: Path) -> bool:
    """Whether the marker is there, is of this version, and every file has the size it names; no file is read."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        sizes = {name: facts["size"] for name, facts in marker["files"].items()}
        current = marker["conversion"] == CONVERSION
        return current and all((folder / n).stat().st_size == size for n, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
