"""Load a matrix as its runs started: `${date}` comes from the runs that this start resumes (see `job_for_run.py`)."""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

from batchgen.jobfile.matrix.load_matrix import LoadedMatrix, load_matrix
from batchgen.output.published_run import read_manifest
from batchgen.progress import Reporter
from batchgen.run.job_for_run import DAYS_BACK, why_another
from batchgen.state.identity import read_identity
from batchgen.state.matrix_record import read_matrix_record
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists


def load_matrix_for_run(  # noqa: PLR0913  # the options of the commands
    file: Path,
    *,
    options: Sequence[str],
    overrides: Sequence[str],
    profile: str | None,
    day: date | None,
    limit: int | None = None,
    reporter: Reporter | None = None,
) -> LoadedMatrix | None:
    """Load a matrix with the date on which the runs that it resumes started, or with `day`; None if the job is one run.

    With a `limit`, the output folder gets the suffix `-limit-N`. Stopped runs of earlier days are looked for only with a
    `reporter`.

    Raises:
        JobFileError: the job is invalid.
        StateError: matrix.json is damaged.
    """

    def load(day: date | None) -> LoadedMatrix | None:
        suffix = "" if limit is None else f"-limit-{limit}"
        return load_matrix(
            file,
            options=options,
            overrides=overrides,
            profile=profile,
            date=day,
            suffix=suffix,
        )

    loaded = load(day)
    if day is not None or loaded is None:
        return loaded
    record = read_matrix_record(RunFolder(loaded.folder))
    if record is not None:
        again = loaded if record.date == loaded.first.date else load(record.date)
        return again if again is not None and again.folder == loaded.folder else loaded
    if reporter is None or not loaded.first.uses_date:
        return loaded
    return _stopped_earlier(loaded, load, reporter) or loaded


def _stopped_earlier(
    today: LoadedMatrix, load: Callable[[date], LoadedMatrix | None], reporter: Reporter
) -> LoadedMatrix | None:
    """The matrix as of the newest earlier day with a record; None if there is none, it is complete, or was another job."""
    for days in range(1, DAYS_BACK + 1):
        day = today.first.date - timedelta(days)
        earlier = load(day)
        if earlier is None or earlier.folder == today.folder:
            continue
        record = read_matrix_record(RunFolder(earlier.folder))
        if record is None:
            continue
        began = load(record.date)
        if began is None or began.folder != earlier.folder or is_finished(began):
            return None
        if reason := _why_another_matrix(began, reporter):
            reporter.info(f"the stopped matrix of {record.date} is not resumed: {reason}")
            return None
        reporter.info(
            f"resuming the stopped matrix of {record.date} in {began.folder}; "
            f"--fresh starts that of {today.first.date}"
        )
        return began
    return None


def is_finished(matrix: LoadedMatrix) -> bool:
    """Whether all runs are published, each by the start that is in its folder."""
    return all(_is_published(RunFolder(matrix.folder / one.name)) for one in matrix.combinations)


def _is_published(folder: RunFolder) -> bool:
    if exists(folder.withheld):
        return True
    if not exists(folder.manifest):
        return False
    identity = read_identity(folder)
    return identity is None or identity.run_id == read_manifest(folder).run_id


def _why_another_matrix(matrix: LoadedMatrix, reporter: Reporter) -> str:
    """Why a run that was begun is not one of this job; empty if all are."""
    for one in matrix.combinations:
        folder = RunFolder(matrix.folder / one.name)
        identity = (
            None if _is_published(folder) or not exists(folder.run) else read_identity(folder)
        )
        if identity is not None and (reason := why_another(one.loaded, identity, reporter)):
            return reason
    return ""
