"""`--incremental-from` for a matrix: each run reuses answers of the run with the same name in an earlier one."""

from pathlib import Path

from batchgen.errors import UsageError
from batchgen.progress import Reporter
from batchgen.run.reuse import LATEST
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists, is_folder


def check_earlier(path: Path | None) -> None:
    """Raise UsageError if answers cannot be reused from there."""
    if path == LATEST:
        raise UsageError(
            "--incremental-from latest does not apply to a matrix: the runs next to one are its other combinations",
            hint="Name the output folder of the earlier matrix.",
        )
    if path is not None and not is_folder(path):
        raise UsageError(
            f"--incremental-from {path}: no such folder",
            hint="Name the output folder of the earlier matrix.",
        )


def earlier_run(path: Path | None, name: str, reporter: Reporter) -> Path | None:
    """The run of this name in an earlier matrix; None if that has none, which is reported."""
    if path is None:
        return None
    folder = RunFolder((path / name).absolute())
    if exists(folder.manifest):
        return folder.path
    reporter.info(f"{path} has no complete run {name}: no answer is reused")
    return None
