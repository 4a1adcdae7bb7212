"""`batchgen purge`: remove a run's private folder, under the run's lock.

A complete run stays complete: `run.json` stays. An unfinished run loses its saved answers; answers that were published
stay while failed rows are being retried.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from batchgen.errors import BatchgenError, UsageError
from batchgen.inspection.find_runs import run_folders
from batchgen.inspection.status import read_saved
from batchgen.output.publish import finish_release
from batchgen.output.published_run import read_manifest
from batchgen.output.unfinished_run import how_to_complete
from batchgen.state.identity import read_identity
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors
from batchgen.storage.entries import exists, is_file, is_folder, list_folder


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of `purge`. `lost` is the number of answers that were saved and not published."""

    removed: Sequence[str]
    bytes: int
    lost: int


def purge(folder: RunFolder, may_lose: Callable[[int], bool]) -> Purged:
    """Remove a run's private state.

    If there are unpublished answers, `may_lose` decides by their number whether they may be deleted: if not, UsageError.
    StateError if damaged state does not show how many there are.
    """
    with hold_lock(folder.lock):
        finish_release(folder)
        lost = _unpublished(folder)
        if lost and not may_lose(lost):
            raise UsageError(
                f"{folder.path} is not complete: {lost:,} saved answers would be lost",
                hint=f"{how_to_complete(folder)} To delete the answers, add --yes.",
            )
        paths = _state(folder)
        removed = [path for path in paths if is_file(path) or list_folder(path)]
        files = chain(*(path.rglob("*") if is_folder(path) else (path,) for path in removed))
        size = sum(file.stat().st_size for file in files if is_file(file))
        with disk_errors("cannot remove the private state of", folder.path):
            _remove(paths)
    return Purged([path.relative_to(folder.path).as_posix() for path in removed], size, lost)


def purge_old_runs(
    top: Path, seconds: float, may_lose: Callable[[int], bool]
) -> Mapping[Path, Purged | str]:
    """Purge the runs in a folder and below it to which nothing was written for so long.

    A run that cannot be purged stays as it is; the reason is its value. Runs without private state are left out.

    Raises:
        UsageError: `top` is not a folder.
    """
    done: dict[Path, Purged | str] = {}
    for folder in run_folders(top):
        if time.time() - _last_written(folder) < seconds:
            continue
        try:
            purged = purge(folder, may_lose)
        except BatchgenError as error:
            done[folder.path] = error.message
            continue
        if purged.removed:
            done[folder.path] = purged
    return done


def _last_written(folder: RunFolder) -> float:
    """Unix time of the newest file."""
    files = [folder.manifest, *list_folder(folder.private)]
    return max((file.stat().st_mtime for file in files if exists(file)), default=0.0)


def _state(folder: RunFolder) -> list[Path]:
    published = exists(folder.manifest)
    kept = {folder.lock, folder.run} if published else {folder.lock}
    resolved = [folder.job] if exists(folder.job) and not published else []
    return [path for path in list_folder(folder.private) if path not in kept] + resolved


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if is_folder(path) and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _unpublished(folder: RunFolder) -> int:
    """Number of answers that only the private folder has; of a retry, those that no longer fail."""
    identity = read_identity(folder)
    if identity is None:
        return 0
    manifest = read_manifest(folder) if exists(folder.manifest) else None
    saved = read_saved(folder, identity).counts
    if manifest is None or manifest.run_id != identity.run_id:
        return saved.rows
    return 0 if folder.complete else max(0, manifest.counts.failed - saved.failed)
