"""The folder for files that can be made again: the demo model, hashes of files, results of probes."""

import os
import sys
from pathlib import Path

from batchgen.errors import ModelError


def cache_folder() -> Path:
    """$BATCHGEN_CACHE, else `batchgen` in the user's cache folder. Not created.

    Raises:
        ModelError: there is no home folder and no BATCHGEN_CACHE.
    """
    if named := os.environ.get("BATCHGEN_CACHE"):
        return Path(named).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ModelError(
            "no cache folder: this user has no home folder",
            hint="Set BATCHGEN_CACHE to a writable folder.",
        ) from error
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "batchgen"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "batchgen"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "batchgen"
