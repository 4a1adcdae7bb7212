"""Open the folder of a run that a command names."""

import shlex
from pathlib import Path

from batchgen.errors import BatchgenError, StateError, UsageError
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists


def open_folder(path: Path) -> RunFolder:
    """Open the run folder at `path`.

    Raises:
        UsageError: it is not a run folder.
        StateError: it is one, and run.json is missing.
    """
    folder = RunFolder(path.absolute())
    if not exists(folder.run) and not exists(folder.manifest):
        raise not_a_run(path)
    return folder


def not_a_run(path: Path) -> BatchgenError:
    """The error for a folder without a run; a StateError if it has saved answers of a run."""
    folder = RunFolder(path)
    if folder.has_state:
        return StateError(
            f"{folder.run} is missing next to saved answers",
            hint="Restore it from a copy, or start over with `batchgen run --fresh`: the old run is moved aside, not deleted.",
        )
    problem = "is not the output folder of a run: it has no manifest.json"
    if exists(folder.matrix):
        return UsageError(
            f"{path} contains the runs of a matrix; expected one run",
            hint=f"Name one of them; `batchgen status {shlex.quote(str(path))}` lists them.",
        )
    if not folder.is_private_readable:
        problem = "has no manifest.json, and you may not read its private folder .batchgen"
        hint = "Ask its owner to complete the run, or read it as its owner."
        return UsageError(f"{path} {problem}", hint=hint)
    return UsageError(
        f"{path} {problem if exists(path) else 'does not exist'}",
        hint="Give the folder of output.path, such as out/my-job.",
    )
