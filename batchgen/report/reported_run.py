"""The run that a report is about: published, staged before its publication, or a table that `batchgen score` scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.comparing.scored_run import ScoredRun, open_scored_run
from batchgen.output.published_run import read_manifest
from batchgen.output.score_tables import read_metrics
from batchgen.output.unfinished_run import check_manifest_exists
from batchgen.records import MetricRow
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """A scored run.

    Attributes:
        rows: of metrics.parquet.
        manifest: its content; empty for a table that `score` scored.
        gates: `gate`, `verdict` and `found` of each.
    """

    scored: ScoredRun
    rows: Sequence[MetricRow]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()

    @property
    def path(self) -> Path:
        """The folder, as the user gave it."""
        return self.scored.path

    @property
    def overall(self) -> list[MetricRow]:
        """The metrics over all answers; primary ones first."""
        rows = [row for row in self.rows if row.slice == OVERALL]
        return sorted(rows, key=lambda row: not row.primary)

    @property
    def ranked(self) -> list[MetricRow]:
        """The metrics by which answers are ordered from worst to best: primary ones, or else all with a better direction."""
        directed = [row for row in self.overall if row.higher_is_better is not None]
        return [row for row in directed if row.primary] or directed

    @property
    def name(self) -> str:
        """The name of the job, or of the scored file."""
        return str(self.manifest.get("job") or self.scored.facts.get("scored") or self.path.name)


def open_reported_run(path: Path) -> ReportedRun:
    """Open a complete run with scores, or a folder that `batchgen score` wrote.

    Raises:
        UsageError: the run is unfinished or has no scores, or the folder is not that of a run.
        StateError: files are damaged.
    """
    folder = RunFolder(path.absolute())
    check_manifest_exists(folder)
    scored = open_scored_run(path)
    manifest = read_manifest(folder).content if exists(folder.manifest) else {}
    gates = manifest.get("evaluation", {}).get("gates", ())
    return ReportedRun(scored, read_metrics(folder.metrics), manifest, gates)


def staged_run(
    folder: RunFolder,
    rows: Sequence[MetricRow],
    manifest: Mapping[str, Any],
) -> ReportedRun:
    """A run whose files are staged, and whose manifest will be published with them."""
    scored = open_scored_run(folder.path, folder.staged)
    return ReportedRun(scored, rows, manifest, manifest["evaluation"]["gates"])
