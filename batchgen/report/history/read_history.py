"""The runs of some folders, by job, the oldest first. Only published files are read.

folders ──> manifest.json, metrics.parquet, metadata of scores.parquet of each run ──> JobHistory for each job
        └─> runs that cannot be shown, with the reason
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from batchgen.errors import BatchgenError, UsageError
from batchgen.evaluation.comparing.scored_run import ScoredRun, open_scored_run
from batchgen.inspection.find_runs import run_folders
from batchgen.output.published_run import read_manifest
from batchgen.output.score_tables import read_metrics
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class HistoryRun:
    """A scored run.

    Attributes:
        name: its folder, relative to the one that the user gave.
        rows: those of metrics.parquet, by metric and slice.
    """

    name: str
    job: str
    run_id: str
    started_at: str
    finished_at: str
    scored: ScoredRun = field(repr=False)
    rows: Mapping[tuple[str, str], MetricRow] = field(repr=False)

    @property
    def path(self) -> Path:
        return self.scored.path

    @property
    def order(self) -> tuple[datetime, str, str]:
        """By the start, which runs of older versions have in whole seconds; no two runs have one order."""
        return datetime.fromisoformat(self.started_at), self.finished_at, self.run_id

    @property
    def started(self) -> str:
        """The start to the minute, in UTC."""
        return self.started_at[:16].replace("T", " ")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that is not shown, and why."""

    path: Path
    why: str

    def plain(self) -> dict[str, str]:
        """As plain values, for JSON."""
        return {"output": str(self.path), "why": self.why}


@dataclass(frozen=True, slots=True)
class JobRuns:
    """The scored runs of a job, the oldest first."""

    job: str
    runs: Sequence[HistoryRun]


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """All scored runs, by job; and those that are left out."""

    jobs: Sequence[JobRuns]
    left_out: Sequence[LeftOut]


def read_history(tops: Sequence[Path]) -> FoundRuns:
    """Read the runs in some folders and below them; two with one id count once.

    Raises:
        UsageError: a folder does not exist, or no run in them has scores.
    """
    runs: dict[str, HistoryRun] = {}
    left_out: list[LeftOut] = []
    seen: set[Path] = set()
    for top in tops:
        for folder in run_folders(top):
            if (place := folder.path.resolve()) in seen:
                continue
            seen.add(place)
            try:
                run = read_run(folder.path, top)
            except BatchgenError as error:
                left_out.append(LeftOut(folder.path, error.message))
                continue
            if run.run_id in runs:
                same = runs[run.run_id].path
                left_out.append(LeftOut(folder.path, f"is the same run as {same}"))
            else:
                runs[run.run_id] = run
    if not runs:
        raise _nothing_found(tops, left_out)
    by_job: dict[str, list[HistoryRun]] = {}
    for run in sorted(runs.values(), key=lambda run: run.order):
        by_job.setdefault(run.job, []).append(run)
    return FoundRuns([JobRuns(job, found) for job, found in sorted(by_job.items())], left_out)


def read_run(path: Path, top: Path) -> HistoryRun:
    """Read one run; `top` is the folder in which it was found.

    Raises:
        BatchgenError: the run is unfinished, damaged or without scores.
    """
    scored = open_scored_run(path)
    folder = RunFolder(path.absolute())
    manifest: Mapping[str, Any] = read_manifest(folder).content
    rows = {(row.metric, row.slice): row for row in read_metrics(folder.metrics)}
    relative = path.absolute().relative_to(top.absolute())
    return HistoryRun(
        name=str(relative) if relative.parts else path.name,
        job=str(manifest["job"]),
        run_id=str(manifest["run_id"]),
        started_at=str(manifest["started_at"]),
        finished_at=str(manifest["finished_at"]),
        scored=scored,
        rows=rows,
    )


def _nothing_found(tops: Sequence[Path], left_out: Sequence[LeftOut]) -> UsageError:
    places = ", ".join(map(str, tops))
    if not left_out:
        return UsageError(
            f"no runs in {places}", hint="Give run folders, or a folder with run folders."
        )
    reasons = "\n".join(f"{one.path}: {one.why}" for one in left_out)
    return UsageError(
        f"no run in {places} has scores that can be read\n{reasons}",
        hint="Score a finished run: batchgen score RUN --metric length.",
    )
