"""`batchgen purge`: remove a run's private folder, under the run's lock.

A complete run loses nothing: its answers are published, and `run.json` stays, so the job still counts as done. An
unfinished run loses its saved answers, and the folder is as if it had never run; published answers stay if failed
rows were being retried (`retry.py`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import UsageError
from batchgen.inspection.status import saved_counts
from batchgen.output.publish import finish_release
from batchgen.output.published_run import read_manifest
from batchgen.state.identity import read_identity
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of `purge`.

    Attributes:
        removed: files and folders, relative to the run folder.
        lost: number of answers that were saved and not published.
    """

    removed: Sequence[str]
    bytes: int
    lost: int


def purge(folder: RunFolder, may_lose: Callable[[int], bool]) -> Purged:
    """Remove a run's private state.

    Args:
        folder: the run folder.
        may_lose: called with the number of unpublished answers, if there are any; whether they may be deleted.

    Raises:
        LockedError: the run is at work.
        ResourceError: the disk is full or read-only.
        StateError: damaged state does not show how many answers would be lost.
        UsageError: `may_lose` returned False.
    """
    with hold_lock(folder.lock):
        finish_release(folder)
        lost = _unpublished(folder)
        if lost and not may_lose(lost):
            raise UsageError(
                f"{folder.path} is not complete: {lost:,} saved answers would be lost",
                hint="Run the job again to complete it, or add --yes to delete them.",
            )
        paths = _state(folder)
        removed = [path for path in paths if path.is_file() or any(path.iterdir())]
        size = sum(_size(path) for path in removed)
        with disk_errors("cannot remove the private state of", folder.path):
            _remove(paths)
    return Purged([path.relative_to(folder.path).as_posix() for path in removed], size, lost)


def _state(folder: RunFolder) -> list[Path]:
    published = folder.manifest.exists()
    kept = {folder.lock, folder.run} if published else {folder.lock}
    resolved = [folder.job] if folder.job.exists() and not published else []
    return [path for path in sorted(folder.private.iterdir()) if path not in kept] + resolved


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _unpublished(folder: RunFolder) -> int:
    """Number of answers that only the private folder has; of a retry, those that no longer fail."""
    identity = read_identity(folder)
    if identity is None:
        return 0
    manifest = read_manifest(folder) if folder.manifest.exists() else None
    saved = saved_counts(folder, identity)
    if manifest is None or manifest.run_id != identity.run_id:
        return saved.rows
    return 0 if folder.complete else max(0, manifest.counts.failed - saved.failed)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
