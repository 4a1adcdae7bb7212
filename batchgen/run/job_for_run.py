"""Load a job as its run started: `${date}` comes from the run in the output folder."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.jobfile.overrides import literal_override
from batchgen.state.run_folder import RunFolder, read_json


def load_for_run(
    file: Path,
    *,
    overrides: Sequence[str],
    profile: str | None,
    day: date | None,
    limit: int | None = None,
) -> LoadedJob:
    """Load a job with the date on which the run in its output folder started, or with `day`, given by the user.

    With a `limit`, the output folder gets the suffix `-limit-N`.

    Raises:
        JobFileError: the job is invalid.
        StateError: the folder's run.json is damaged.
    """
    loaded = load_job(file, overrides=overrides, profile=profile, date=day)
    if limit is not None:
        path = f"{loaded.job.output.path}-limit-{limit}"
        overrides = (*overrides, literal_override("output.path", path))
        loaded = load_job(file, overrides=overrides, profile=profile, date=day)
    recorded = RunFolder(Path(loaded.job.output.path)).run
    if day is not None or not recorded.exists():
        return loaded
    began = date.fromisoformat(read_json(recorded)["date"])
    if began == loaded.date:
        return loaded
    again = load_job(file, overrides=overrides, profile=profile, date=began)
    return again if again.job.output.path == loaded.job.output.path else loaded
