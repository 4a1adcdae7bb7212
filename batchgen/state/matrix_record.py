"""matrix.json: the runs of a matrix, in the private folder of the folder that contains them.

It is written before the first run begins. What each run has done is in its own folder alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from batchgen.errors import StateError
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.entries import exists

FORMAT = 1


@dataclass(frozen=True, slots=True)
class RecordedCombination:
    """A run: the name of its folder, and the values that vary, by key."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MatrixRecord:
    """The runs of a matrix.

    Attributes:
        date: the value of `${date}` in all of them.
        replaced: with `--fresh`: the ids of the runs that are to be replaced, by the name of their folder.
    """

    job: str
    date: date
    combinations: Sequence[RecordedCombination]
    replaced: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: RunFolder) -> None:
        """Write the file. The caller holds the lock of the folder."""
        content = {
            "format": FORMAT,
            "job": self.job,
            "date": self.date.isoformat(),
            "combinations": [asdict(one) for one in self.combinations],
            "replaced": dict(self.replaced),
        }
        folder.write_json(folder.matrix, content, stage="matrix")


def read_matrix_record(folder: RunFolder) -> MatrixRecord | None:
    """The record of a folder; None if there is none.

    Raises:
        StateError: it is damaged, or of a later version.
    """
    if not folder.is_private_readable or not exists(folder.matrix):
        return None
    content = read_json(folder.matrix)
    if content.get("format") != FORMAT:
        raise StateError(
            f"{folder.matrix} has format {content.get('format')}; this version reads format {FORMAT}",
            hint="Update batchgen, or write elsewhere with --output FOLDER.",
        )
    return MatrixRecord(
        content["job"],
        date.fromisoformat(content["date"]),
        [RecordedCombination(one["name"], one["settings"]) for one in content["combinations"]],
        content["replaced"],
    )


def check_no_matrix(path: Path) -> None:
    """Raise StateError if the folder contains the runs of a matrix: one run does not go there."""
    folder = RunFolder(path)
    if folder.is_private_readable and exists(folder.matrix):
        raise StateError(
            f"{path} contains the runs of a matrix",
            hint="Run the job with its matrix, or write elsewhere with --output FOLDER.",
        )


def check_no_run(path: Path) -> None:
    """Raise StateError if the folder contains a run of its own: a matrix does not go there."""
    folder = RunFolder(path)
    if folder.has_state or exists(folder.manifest):
        raise StateError(
            f"{path} contains a run; the runs of a matrix need a folder of their own",
            hint="Write elsewhere with --output FOLDER, or move that run away.",
        )
