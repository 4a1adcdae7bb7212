"""Copies of objects on this machine: folders below the cache, each deleted when no start has used it for 30 days."""

import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from batchgen.storage.durable import disk_errors

KEEP_DAYS = 30


def use_copies(folder: Path, used: Collection[Path]) -> None:
    """Create the folder, note that the copies in it are `used`, and delete those that nobody has used."""
    oldest = time.time() - KEEP_DAYS * 86_400
    with disk_errors("cannot write", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for copy in used:
            copy.mkdir(mode=0o700, exist_ok=True)
            os.utime(copy)
        for entry in folder.iterdir():
            if entry not in used and entry.stat().st_mtime < oldest:
                shutil.rmtree(entry, ignore_errors=True)  # another process may delete it
