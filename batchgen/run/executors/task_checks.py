"""What every process that makes parts checks: before the first, that the disk is large enough; before each, that it may be saved."""

from collections.abc import Callable

from batchgen.input.change_guard import ChangeGuard
from batchgen.progress import Reporter
from batchgen.run.preflight.disk_space import check_disk_space
from batchgen.run.setup import Setup
from batchgen.state.lock import RunLock
from batchgen.state.run_folder import RunFolder


def validity_check(lock: RunLock, setup: Setup) -> Callable[[], None]:
    """What raises if nothing may be saved any more: the lock is lost, or the input has changed."""
    unchanged = ChangeGuard(setup.survey.files)

    def check() -> None:
        lock.check()
        unchanged.check()

    return check


def check_space(folder: RunFolder, setup: Setup, rows: int, reporter: Reporter) -> None:
    """See `check_disk_space`; `rows` output rows are to be saved, and repeat their share of the input."""
    size = sum(file.size for file in setup.survey.files)
    check_disk_space(
        folder.private,
        rows,
        setup.resolution.decoding,
        input_bytes=int(rows / max(1, setup.survey.rows) * size),
        reporter=reporter,
    )
