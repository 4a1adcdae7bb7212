"""The marker of a complete folder: a file, written last, that lists all others with their sizes."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MARKER = "batchgen-model.json"
CONVERSION = 1
"""Increased when convert.py changes its output for the same source; older folders are then replaced."""


def write_marker(folder: Path, facts: Mapping[str, str]) -> None:
    """Mark the folder as complete, with `facts` about its source, and flush the marker."""
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
    """Whether the marker has this version and every file has its size; no other file is read."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        sizes = {name: facts["size"] for name, facts in marker["files"].items()}
        current = marker["conversion"] == CONVERSION
        return current and all((folder / n).stat().st_size == size for n, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def read_marker(folder: Path) -> Mapping[str, Any]:
    """The facts of a converted model; empty for any other folder."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
