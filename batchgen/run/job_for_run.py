"""Load a job as its run started: `${date}` comes from the run that this start resumes.

    today's folder has a run?  its date, if the path stays the same
    no run there?              the newest run of an earlier day by the names of folders, if it was stopped

An earlier run is resumed only if nothing that decides its answers has changed except the date.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.jobfile.load import LoadedJob, load_job
from batchgen.jobfile.overrides import literal_override
from batchgen.output.published_run import read_manifest
from batchgen.progress import Reporter
from batchgen.report.charts.chart_packages import check_chart_packages
from batchgen.run.setup import new_identity, set_up
from batchgen.state.identity import Identity, check_same_run, read_identity
from batchgen.state.lock import is_locked
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.entries import exists

DAYS_BACK = 31
"""Runs of how many days before are resumed."""


def loaded_job(job: LoadedJob | Path | str) -> LoadedJob:
    """A job that is loaded already, or the job file at a path, as `load_for_run` loads it.

    Raises:
        JobFileError: the job is invalid.
        StateError: the folder's run.json is damaged.
        DataError: it writes a report, and a package for that is not installed.
    """
    if isinstance(job, LoadedJob):
        loaded = job
    else:
        loaded = load_for_run(Path(job), overrides=(), profile=None, day=None)
    check_chart_packages(needed=loaded.job.output.report)
    return loaded


def load_for_run(
    file: Path,
    *,
    overrides: Sequence[str],
    profile: str | None,
    day: date | None,
    limit: int | None = None,
    reporter: Reporter | None = None,
) -> LoadedJob:
    """Load a job with the date on which the run that it resumes started, or with `day`, given by the user.

    With a `limit`, the output folder gets the suffix `-limit-N`. Stopped runs of earlier days are looked for only with a
    `reporter`, which receives the name of the run that is resumed.

    Raises:
        JobFileError: the job is invalid.
        StateError: the folder's run.json is damaged.
    """

    def load(day: date | None) -> LoadedJob:
        loaded = load_job(file, overrides=overrides, profile=profile, date=day)
        if limit is None:
            return loaded
        path = literal_override("output.path", f"{loaded.job.output.path}-limit-{limit}")
        return load_job(file, overrides=(*overrides, path), profile=profile, date=day)

    loaded = load(day)
    if day is not None:
        return loaded
    recorded = RunFolder(Path(loaded.job.output.path)).run
    if exists(recorded):
        began = date.fromisoformat(read_json(recorded)["date"])
        again = loaded if began == loaded.date else load(began)
        return again if again.job.output.path == loaded.job.output.path else loaded
    if reporter is None or not loaded.uses_date:
        return loaded
    return _stopped_earlier(loaded, load, reporter) or loaded


def _stopped_earlier(
    today: LoadedJob, load: Callable[[date], LoadedJob], reporter: Reporter
) -> LoadedJob | None:
    """The job as of the newest stopped run of an earlier day; None if there is none, or if it was another job."""
    seen = {today.job.output.path}
    for days in range(1, DAYS_BACK + 1):
        earlier = load(today.date - timedelta(days))
        path = earlier.job.output.path
        if path in seen:
            continue
        seen.add(path)
        folder = RunFolder(Path(path))
        identity = _stopped_run(folder)
        if identity is None:
            if exists(folder.manifest):
                return None  # a later run than any that stopped before it is published
            continue
        began = load(date.fromisoformat(identity.date))
        if began.job.output.path != path:
            continue
        if reason := why_another(began, identity, reporter):
            reporter.info(f"the stopped run of {identity.date} is not resumed: {reason}")
            return None
        reporter.info(
            f"resuming the stopped run of {identity.date} in {path}; --fresh starts that of {today.date}"
        )
        return began
    return None


def _stopped_run(folder: RunFolder) -> Identity | None:
    """The identity of the run in a folder if it can be resumed: begun, neither published nor withheld, and not running."""
    if not exists(folder.run) or exists(folder.withheld) or is_locked(folder.lock):
        return None
    identity = read_identity(folder)
    published = read_manifest(folder).run_id if exists(folder.manifest) else None
    return None if identity is None or identity.run_id == published else identity


def why_another(loaded: LoadedJob, identity: Identity, reporter: Reporter) -> str:
    """Why a run is not one of this job; empty if it is."""
    folder = RunFolder(Path(loaded.job.output.path))
    try:
        check_same_run(folder, identity, new_identity(set_up(loaded, reporter, folder)))
    except BatchgenError as error:
        return error.message
    return ""
