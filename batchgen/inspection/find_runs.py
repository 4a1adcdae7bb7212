"""`batchgen runs`: the runs below a folder, the newest first."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import BatchgenError, UsageError
from batchgen.inspection.status import RunStatus, status
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists, is_folder


@dataclass(frozen=True, slots=True)
class UnreadableRun:
    """A run folder whose status cannot be read, and why."""

    folder: RunFolder
    why: str


def find_runs(top: Path) -> list[RunStatus | UnreadableRun]:
    """The runs in a folder and below it; links are not followed.

    Raises:
        UsageError: `top` is not a folder.
    """
    found: list[RunStatus | UnreadableRun] = [_read(folder) for folder in run_folders(top)]
    return sorted(found, key=_started, reverse=True)


def run_folders(top: Path) -> Iterator[RunFolder]:
    """The run folders in a folder and below it; links are not followed.

    Raises:
        UsageError: `top` is not a folder.
    """
    if not is_folder(top):
        problem = "is not a folder" if exists(top) else "does not exist"
        raise UsageError(f"{top} {problem}", hint="Give a folder with run folders, such as out.")
    for path, folders, files in os.walk(top.absolute()):
        folder = RunFolder(Path(path))
        private = folder.private.name
        if folder.manifest.name in files or (private in folders and exists(folder.run)):
            yield folder
        folders[:] = sorted(name for name in folders if name != private)


def _read(folder: RunFolder) -> RunStatus | UnreadableRun:
    try:
        return status(folder.path)
    except BatchgenError as error:
        return UnreadableRun(folder, error.message)


def _started(run: RunStatus | UnreadableRun) -> str:
    return run.started_at if isinstance(run, RunStatus) else ""
