"""`batchgen purge`: remove what a run keeps in its private folder, under the run's own lock.

Of a complete run nothing is lost: its answers are published, and `run.json` stays, so that the job is still known to be
done. Of an unfinished run the answers that are saved are lost, and the folder is as if it had never run; of a retry
of failed rows (`retry.py`) what is published stays.
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
    """What was removed.

    Attributes:
        removed: files and folders, relative to the run's folder.
        lost: answers that were saved and not published.
    """

    removed: Sequence[str]
    bytes: int
    lost: int


def purge(folder: RunFolder, may_lose: Callable[[int], bool]) -> Purged:
    """Remove a run's private state.

    Args:
        folder: the run's folder.
        may_lose: asked, if answers are saved that are not published, whether that many may go.

    Raises:
        LockedError: the run is at work.
        ResourceError: the disk refused.
        StateError: it cannot be told how many answers would be lost.
        UsageError: answers would be lost.
    """
    with hold_lock(folder.lock):
        finish_release(folder)
        lost = _unpublished(folder)
        if lost and not may_lose(lost):
            raise UsageError(
                f"{folder.path} is not complete: {lost:,} saved answers would be lost",
                hint="Run the job again to complete it, or add --yes to lose them.",
            )
        going = _state(folder)
        told = [path for path in going if path.is_file() or any(path.iterdir())]
        size = sum(_size(path) for path in told)
        with disk_errors("cannot remove the private state of", folder.path):
            _remove(going)
    return Purged([path.relative_to(folder.path).as_posix() for path in told], size, lost)


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
    """Answers that are saved in the private folder alone; of a retry, those that are answers by now."""
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
