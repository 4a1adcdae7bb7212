"""The run whose answers are reviewed; it may be without scores."""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from batchgen.errors import UsageError
from batchgen.evaluation.comparing.scored_run import ScoredRun, open_scored_run
from batchgen.job.evaluate import Gate
from batchgen.output.parquet_table import ParquetTable
from batchgen.output.published_run import PublishedRun, check_no_pending_release, job_issue
from batchgen.output.score_tables import read_facts
from batchgen.output.unfinished_run import check_manifest_exists, why_unfinished
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

_NO_SCORES = ParquetTable([])


@dataclass(frozen=True, slots=True)
class ReviewedRun:
    """A complete run. `scored.metrics` is empty if it has no scores."""

    folder: RunFolder
    scored: ScoredRun
    manifest: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        return str(self.manifest["run_id"])

    @property
    def file_mode(self) -> int:
        """Of the answers, and so of the votes about them."""
        return stat.S_IMODE(self.scored.responses.paths[0].stat().st_mode)

    @property
    def judges(self) -> Mapping[str, Mapping[str, Any]]:
        """The judges that scored the run: their recorded options by name."""
        found: Mapping[str, Mapping[str, Any]] = self.scored.facts.get("evaluate", {}).get(
            "judges", {}
        )
        return found

    @property
    def metrics(self) -> Sequence[MetricRow]:
        """The metrics over all answers; primary ones first."""
        return sorted(self.scored.metrics.values(), key=lambda row: not row.primary)

    @property
    def gates(self) -> Sequence[Gate]:
        """The gates of the job; none if job.yaml was edited since, or is gone."""
        recorded = self.manifest.get("job_sha256")
        if not exists(self.folder.job) or job_issue(self.folder, recorded) is not None:
            return ()
        try:
            job = yaml.safe_load(self.folder.job.read_text("utf-8"))
            listed = (job.get("evaluate") or {}).get("gates") or ()
            return [Gate.model_validate(one) for one in listed]
        except (yaml.YAMLError, ValidationError, AttributeError, UnicodeDecodeError):
            return ()  # a run of a version whose gates had other keys


def open_reviewed_run(path: Path) -> ReviewedRun:
    """Open a complete run.

    Raises:
        UsageError: the run is unfinished, or the folder is not that of a run.
        StateError: files are damaged.
        LockedError: the run is running.
    """
    folder = RunFolder(path.absolute())
    check_no_pending_release(folder)
    if not exists(folder.manifest):
        check_manifest_exists(folder)
        if exists(folder.responses) and not exists(folder.run):
            raise UsageError(
                f"{path} is a scored table, not a run: its answers have no run id that votes could name",
                hint="Give the output folder of `batchgen run`.",
            )
        raise why_unfinished(folder).error(UsageError)
    run = PublishedRun(folder)
    if exists(folder.scores) and exists(folder.metrics):
        scored = open_scored_run(path)
    else:
        run.check(hashes=False, only_responses=True)
        facts = read_facts(run.responses.paths[0])
        scored = ScoredRun(path, _NO_SCORES, {}, run.responses, facts)
    return ReviewedRun(folder, scored, run.manifest.content)
