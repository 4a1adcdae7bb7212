"""The run that the baseline `previous` means: what the folder publishes, or the run of an earlier day next to it.

out/my-job            another run is published there    that run, whose answers would be replaced
out/${date}/my-job    none is published there           the newest run of this job in out/*/my-job that started before
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchgen.errors import StateError
from batchgen.job.spec import Job
from batchgen.jobfile.load import LoadedJob
from batchgen.output.published_run import read_manifest
from batchgen.state.identity import read_identity
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

PREVIOUS = "previous"
"""Baseline that means the run before."""


def published_before(folder: RunFolder) -> Path | None:
    """The folder if it publishes another run than the one it makes; it publishes this one while that is scored again."""
    if not exists(folder.manifest):
        return None
    identity = read_identity(folder)
    if identity is None or identity.run_id == read_manifest(folder).run_id:
        return None
    return folder.path


def run_of_earlier_day(loaded: LoadedJob, started_at: str) -> Path | None:
    """The newest complete run of a job that started before `started_at`, in the output folders of all days.

    A run of another `input.limit` is a trial, and left out. A damaged manifest counts by its time of writing, so that a gate is
    undecided rather than passed. None if `output.path` has no date, or if there is no such run.
    """
    pattern, job = loaded.output_pattern, loaded.job
    if pattern is None:
        return None
    output = Path(job.output.path)
    folders = [RunFolder(path) for path in output.parents[pattern.count("/")].glob(pattern)]
    times = {
        folder.path: _time(folder, job)
        for folder in folders
        if folder.complete and folder.path != output
    }
    found = [
        (time, path) for path, time in times.items() if time is not None and time < (started_at, "")
    ]
    return max(found)[-1] if found else None


def _time(folder: RunFolder, job: Job) -> tuple[str, str] | None:
    """When a run started and ended; None for that of another job."""
    try:
        manifest = read_manifest(folder)
    except StateError:
        written = datetime.fromtimestamp(folder.manifest.stat().st_mtime, UTC)
        return written.isoformat(timespec="seconds"), ""
    limit = manifest.settings.get("input", {}).get("limit")
    if (manifest.content.get("job"), limit) != (job.name, job.input.limit):
        return None
    return str(manifest.content.get("started_at")), str(manifest.content.get("finished_at"))


def _run_id(path: Path) -> str | None:
    """The id of the complete run in a folder; None if there is none, or if it is damaged."""
    try:
        return read_manifest(RunFolder(path)).run_id if RunFolder(path).complete else None
    except StateError:
        return None


def earlier_record(earlier: Path | None, folder: RunFolder) -> dict[str, str] | None:
    """The run of an earlier day as the manifest names it: a relative path, so that all days may be moved together."""
    run_id = None if earlier is None else _run_id(earlier)
    if earlier is None or run_id is None:
        return None
    return {"folder": Path(os.path.relpath(earlier, folder.path)).as_posix(), "run_id": run_id}


def recorded_earlier(evaluation: Mapping[str, Any], folder: RunFolder) -> Path | None:
    """The run of an earlier day that a manifest's section `evaluation` names, if it is still there."""
    noted = evaluation.get("previous")
    if not noted:
        return None
    path = Path(os.path.normpath(folder.path / noted["folder"]))
    return path if _run_id(path) == noted["run_id"] else None
