"""Load a job as its run started: `${date}` comes from the run in the output folder."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.jobfile.overrides import literal_override
from batchgen.state.run_folder import RunFolder, read_json


def load_for_run(
    file: Path, *, sets: Sequence[str], profile: str | None, day: date | None
) -> LoadedJob:
    """Load a job with the date on which the run in its output folder started.

    Args:
        file: the job file.
        sets: `KEY=VALUE` overrides.
        profile: a block of the job's profiles.
        day: a date that the user gave; takes precedence over the folder's.

    Raises:
        JobFileError: the job is invalid.
        StateError: the folder's run.json is damaged.
    """
    loaded = load_job(file, overrides=sets, profile=profile, date=day)
    known = RunFolder(Path(loaded.job.output.path)).run
    if day is not None or not known.exists():
        return loaded
    began = date.fromisoformat(read_json(known)["date"])
    if began == loaded.date:
        return loaded
    again = load_job(file, overrides=sets, profile=profile, date=began)
    return again if again.job.output.path == loaded.job.output.path else loaded


def load_limited(
    file: Path, *, limit: int, sets: Sequence[str], profile: str | None, day: date | None
) -> LoadedJob:
    """Load a job for a run of its first rows only, whose output folder has the suffix `-limit-N`.

    Raises:
        JobFileError: the job is invalid.
        StateError: the folder's run.json is damaged.
    """
    full = load_job(file, overrides=sets, profile=profile, date=day)
    output = literal_override("output.path", f"{full.job.output.path}-limit-{limit}")
    return load_for_run(file, sets=(*sets, output), profile=profile, day=day)
