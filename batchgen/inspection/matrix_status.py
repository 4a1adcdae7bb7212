"""The progress of the runs of a matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.inspection.status import RunStatus, status
from batchgen.state.matrix_record import RecordedCombination, read_matrix_record
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists


@dataclass(frozen=True, slots=True)
class CombinationStatus:
    """A run of a matrix: `progress` is None if it was not begun, or cannot be read, which `why` explains."""

    combination: RecordedCombination
    progress: RunStatus | None = None
    why: str = ""

    @property
    def state(self) -> str:
        if self.progress is not None:
            return self.progress.state
        return "unreadable" if self.why else "not begun"


@dataclass(frozen=True, slots=True)
class MatrixStatus:
    """The progress of a matrix."""

    folder: Path
    job: str
    runs: Sequence[CombinationStatus]


def matrix_status(path: Path) -> MatrixStatus | None:
    """Read the progress of all runs; None if the folder is not that of a matrix.

    Raises:
        StateError: matrix.json is damaged.
    """
    folder = RunFolder(path.absolute())
    record = read_matrix_record(folder)
    if record is None:
        return None
    runs = [_status(folder.path / one.name, one) for one in record.combinations]
    return MatrixStatus(folder.path, record.job, runs)


def _status(path: Path, one: RecordedCombination) -> CombinationStatus:
    folder = RunFolder(path)
    if not exists(folder.run) and not exists(folder.manifest) and not folder.has_state:
        return CombinationStatus(one)
    try:
        return CombinationStatus(one, status(path))
    except BatchgenError as error:
        return CombinationStatus(one, why=error.message)
