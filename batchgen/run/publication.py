"""The end of a run: publish the answers, write the manifest, delete what only an unfinished run needs.

check lock and input ─> answers with scores, staged ─> gates ─> released ─> manifest: the run is complete
                                                           └─> withheld, with `output.publish: gated`
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from batchgen.errors import ExitCode
from batchgen.evaluation.gates import GateResult, decide_gates
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses, StoppedError
from batchgen.evaluation.scoring.score_run import (
    evaluation_record,
    report_removed_metrics,
    rescore_run,
)
from batchgen.evaluation.staging import StagedAnswers, stage_answers
from batchgen.input.change_guard import ChangeGuard
from batchgen.output.publish import Stage
from batchgen.output.published_run import PublishedRun, read_manifest
from batchgen.output.score_tables import read_metrics
from batchgen.progress import Reporter
from batchgen.records import MetricRow
from batchgen.run.result import RunResult
from batchgen.run.reuse import ReuseCounts
from batchgen.run.setup import Setup
from batchgen.state.identity import FORMAT, Identity
from batchgen.state.lock import RunLock
from batchgen.state.parts import SealedPart, clear_parts, stream_parts
from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors
from batchgen.storage.sqlite import remove


@dataclass(frozen=True, slots=True)
class Publication:
    """Publishes a run whose parts are all sealed."""

    folder: RunFolder
    lock: RunLock
    setup: Setup
    identity: Identity

    def publish(
        self, sealed: Mapping[int, SealedPart], result: RunResult, passes: ScoringPasses
    ) -> RunResult:
        """Score and publish all parts, then write the manifest; with `publish: gated`, a failed gate withholds them.

        Raises:
            StoppedError: the run was stopped before all models were queried.
            DataError: the input changed since the answers were made; nothing is published.
            StateError: a part is damaged, or the lock is lost.
        """
        setup, output = self.setup, self.setup.job.output
        origin = {
            "job": setup.job.name,
            "fingerprint": self.identity.fingerprint,
            "settings": self.identity.settings,
            "model": _model_record(setup),
            "versions": setup.versions,
        }
        self.lock.check()
        ChangeGuard(setup.survey.files).rehash()
        stage = Stage(self.folder, output.compression, setup.file_mode, origin)
        tables = passes.add_likelihood_columns(lambda: stream_parts(sealed))
        self.lock.check()
        answers = StagedAnswers(tables, setup.schema, output.layout)
        rows = stage_answers(stage, answers, setup.scorer)
        gates = decide_gates(setup.evaluation.section.gates, rows, self.folder, self.folder.staged)
        result = replace(result, metrics=rows, gates=gates)
        if output.publish == "gated" and result.exit_code != ExitCode.DONE:
            result = replace(result, outcome="withheld")
            content = {"run_id": result.run_id, "why": result.not_passed}
            self.folder.write_json(self.folder.withheld, content, stage="withheld")
            return result
        stage.text(self.folder.job.name, setup.loaded.dump())
        manifest = {
            "format": FORMAT,
            "run_id": self.identity.run_id,
            **origin,
            "files": [asdict(file) for file in stage.files()],
            "rows": self.identity.rows,
            "samples": setup.samples,
            "counts": asdict(result.counts),
            "max_error_rate": result.limits.max_error_rate,
            "max_error_count": result.limits.max_error_count,
            "input": list(self.identity.input),
            "engine": dict(result.engine),
            "evaluation": evaluation_record(setup.scorer, gates),
            "started_at": self.identity.started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(result.seconds, 3),
            "load_seconds": round(result.load_seconds, 3),
            "resumed_rows": result.resumed_rows,
            "incremental": asdict(result.incremental) if result.incremental else None,
        }
        self.lock.check()
        stage.release(manifest)
        return result


def is_complete(folder: RunFolder, identity: Identity) -> bool:
    """Whether this run is complete: with `publish: gated`, another run's answers may be published."""
    return folder.complete and read_manifest(folder).run_id == identity.run_id


def already_complete(
    folder: RunFolder, setup: Setup, passes: ScoringPasses, reporter: Reporter
) -> RunResult:
    """The result of a run that an earlier start completed; scored again if only the evaluation changed.

    Raises:
        StateError: published files are damaged.
    """
    published = PublishedRun(folder)
    published.check()
    clean(folder)
    manifest, evaluation = published.manifest, setup.evaluation
    counts, reused = manifest.counts, manifest.content.get("incremental")
    result = RunResult(
        outcome="already complete",
        folder=folder,
        run_id=manifest.run_id,
        counts=counts,
        expected_rows=counts.rows,
        resumed_rows=counts.rows,
        limits=setup.job.run,
        engine=manifest.content["engine"],
        incremental=ReuseCounts(**reused) if reused else None,
    )
    rows: Sequence[MetricRow]
    gates: Sequence[GateResult]
    try:
        if manifest.evaluation.get("fingerprint") == evaluation.fingerprint:
            rows = read_metrics(folder.metrics) if evaluation.measures else []
            gates = decide_gates(evaluation.section.gates, rows, folder, folder.path)
        else:
            job, transform = setup.loaded.dump(), passes.add_likelihood_columns
            report_removed_metrics(manifest, evaluation, reporter)
            scored = rescore_run(published, evaluation, job=job, transform=transform)
            rows, gates = scored.metrics, scored.gates
            passes.cache.delete_unused()
    except StoppedError:
        return replace(result, outcome="stopped")
    return replace(result, metrics=rows, gates=gates)


def clean(folder: RunFolder) -> None:
    """Delete what only an unfinished run, or an interrupted scoring, needs."""
    with disk_errors("cannot delete", folder.retry):
        folder.retry.unlink(missing_ok=True)
        if folder.staged.exists():
            shutil.rmtree(folder.staged)
    clear_parts(folder)
    remove(folder.journal)


def _model_record(setup: Setup) -> dict[str, Any]:
    if setup.model is None:
        return {}
    resolved = setup.model.resolved
    return {
        "name": resolved.name,
        "source": resolved.source,
        "revision": resolved.revision,
        "lock": setup.model.lock.name if setup.model.lock else None,
        "parameters": setup.model.info.parameters,
    }
