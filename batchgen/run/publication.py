"""The end of a run: publish the answers, write the manifest, delete what only an unfinished run needs.

check lock and input ─> answers with scores, staged ─> gates ─> released ─> manifest: the run is complete
                                                           └─> withheld, with `output.publish: gated`

A complete run whose job now has other columns or files is published again: its answers are sealed as parts, with these
columns, and published as before. Until then the published files stay. A start that was killed is repeated from the beginning.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from batchgen.errors import ExitCode, StateError
from batchgen.evaluation.gates import GateResult, decide_gates
from batchgen.evaluation.gating.previous_run import recorded_earlier, run_of_earlier_day
from batchgen.evaluation.human_votes import add_vote_columns
from batchgen.evaluation.model_queries.scoring_pass import ScoringPasses, StoppedError
from batchgen.evaluation.scoring.score_run import (
    evaluation_record,
    report_removed_metrics,
    rescore_run,
)
from batchgen.evaluation.staging import StagedAnswers, stage_answers
from batchgen.input.change_guard import ChangeGuard
from batchgen.output.column_change import seal_published
from batchgen.output.publish import Stage, finish_release
from batchgen.output.published_run import (
    JOB_HASH,
    PUBLISHED_AS,
    PublishedRun,
    publication_changes,
    publication_settings,
    read_manifest,
)
from batchgen.output.score_tables import read_metrics
from batchgen.output.unfinished_run import check_manifest_exists
from batchgen.progress import Reporter
from batchgen.records import MetricRow
from batchgen.report.write_report import stage_report, write_report
from batchgen.run.result import RunResult
from batchgen.run.reuse import ReuseCounts
from batchgen.run.setup import Setup
from batchgen.run.stop_signals import StopCondition
from batchgen.state.identity import FORMAT, Identity, record_columns
from batchgen.state.lock import RunLock
from batchgen.state.parts import PartStore, SealedPart, clear_parts, stream_parts
from batchgen.state.run_folder import RunFolder
from batchgen.storage.durable import disk_errors, sha256
from batchgen.storage.entries import check_regular, exists, irregular
from batchgen.storage.sqlite import remove

_OF_THE_GENERATION = (
    *("model", "versions", "counts", "engine", "finished_at", "seconds", "load_seconds"),
    *("resumed_rows", "incremental"),
)
"""Keys of the manifest that stay when a run is published again."""


@dataclass(frozen=True, slots=True)
class Publication:
    """Publishes a run whose parts are all sealed."""

    folder: RunFolder
    lock: RunLock
    setup: Setup
    identity: Identity

    def of_complete_run(
        self, passes: ScoringPasses, reporter: Reporter, stop: StopCondition
    ) -> RunResult:
        """The result of a run that an earlier start completed; published or scored again if the job requires it.

        Raises:
            DataError: it is published again, and the input has changed.
            StateError: published files are damaged, or the lock is lost.
        """
        published = PublishedRun(self.folder)
        published.check()
        changes = publication_changes(published, self.setup.job)
        if not changes:
            record_columns(self.folder, self.identity)  # a start was killed before that
            return already_complete(published, self.setup, passes, reporter)
        self.setup.try_first_rows(reporter)
        reporter.info(f"publishing the answers again, without generating: {'; '.join(changes)}")
        report_removed_metrics(published.manifest, self.setup.evaluation, reporter)
        reporter.begin("publishing the answers again")
        result = complete_result(published, self.setup, "published again")
        try:
            sealed = self._seal_again(published, stop)
            result = self.publish(sealed, result, passes, published.manifest.content)
        except StoppedError:
            return replace(result, outcome="stopped", why_stopped=stop.reason())
        if result.outcome != "withheld":
            record_columns(self.folder, self.identity)
            clean(self.folder)
            passes.cache.delete_unused()
        return result

    def _seal_again(
        self, published: PublishedRun, should_stop: Callable[[], bool]
    ) -> Mapping[int, SealedPart]:
        """Seal the published answers as parts, with the columns of the job."""
        setup, rows = self.setup, self.identity.part_rows
        change = setup.column_change
        chunks = setup.chunks(rows=rows)

        def convert(_: int, part: pa.Table) -> pa.Table:
            if should_stop():
                raise StoppedError
            self.lock.check()
            return change.apply(part, next(chunks)) if has_changed else part

        has_changed = published.manifest.fingerprint != self.identity.fingerprint
        clear_parts(self.folder)
        store = PartStore(self.folder, compression=setup.job.output.compression)
        return seal_published(published, store, self.identity.output_sizes, convert)

    def publish(
        self,
        sealed: Mapping[int, SealedPart],
        result: RunResult,
        passes: ScoringPasses,
        before: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Score and publish all parts, then write the manifest; with `publish: gated`, a failed gate withholds them.

        `before` is the manifest of this run, if it is published again.

        Raises:
            StoppedError: the run was stopped before all models were queried.
            DataError: the input changed since the answers were made; nothing is published.
            StateError: a part is damaged, or the lock is lost.
        """
        setup, output = self.setup, self.setup.job.output
        kept = {key: before[key] for key in _OF_THE_GENERATION if key in before} if before else {}
        origin = {
            "job": setup.job.name,
            "fingerprint": self.identity.fingerprint,
            "settings": self.identity.settings,
            "model": _model_record(setup),
            "versions": setup.versions,
        }
        origin |= {key: kept[key] for key in origin.keys() & kept.keys()}
        self.lock.check()
        ChangeGuard(setup.survey.files).rehash()
        stage = Stage(self.folder, output.compression, setup.file_mode, origin)
        tables = add_vote_columns(
            passes.add_likelihood_columns(lambda: stream_parts(sealed)),
            setup.evaluation,
            self.folder,
            run_id=self.identity.run_id,
            prefix=output.prefix,
        )
        self.lock.check()
        answers = StagedAnswers(tables, setup.schema, output.layout)
        rows = stage_answers(stage, answers, setup.scorer)
        earlier = run_of_earlier_day(setup.loaded, self.identity.started_at)
        listed, staged = setup.evaluation.section.gates, self.folder.staged
        gates = decide_gates(listed, rows, self.folder, staged, before=earlier)
        result = replace(result, metrics=rows, gates=gates)
        withheld = output.publish == "gated" and result.exit_code != ExitCode.DONE
        if not withheld:
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
            "inexact_columns": sorted(setup.survey.inexact),
            "engine": dict(result.engine),
            "evaluation": evaluation_record(setup.scorer, gates, self.folder, earlier),
            "started_at": self.identity.started_at,
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(result.seconds, 3),
            "load_seconds": round(result.load_seconds, 3),
            "resumed_rows": result.resumed_rows,
            "incremental": asdict(result.incremental) if result.incremental else None,
            PUBLISHED_AS: publication_settings(setup.job),
            **kept,
        }
        if output.report:
            stage_report(stage, rows, manifest)
        self.lock.check()
        if withheld:
            content = {"run_id": result.run_id, "why": result.not_passed}
            self.folder.write_json(self.folder.withheld, content, stage="withheld")
            return replace(result, outcome="withheld")
        stage.release(manifest)
        return result


def set_old_run_aside(folder: RunFolder, reporter: Reporter) -> None:
    """Move an old run aside; its published answers stay for readers until those of the new run replace them."""
    with suppress(StateError):  # a damaged run is moved as a whole
        finish_release(folder)
        if exists(folder.manifest):
            read_manifest(folder)
            if aside := folder.set_state_aside():
                reporter.info(
                    f"the old run stays published until the new one is; then it is {aside}"
                )
            return
    if aside := folder.set_aside():
        reporter.info(f"the old run is now {aside}")


def is_complete(folder: RunFolder, identity: Identity) -> bool:
    """Whether this run is complete: with `publish: gated`, another run's answers may be published.

    Raises:
        StateError: files of the run are published without a manifest.
    """
    check_manifest_exists(folder)
    return folder.complete and read_manifest(folder).run_id == identity.run_id


def complete_result(
    published: PublishedRun, setup: Setup, outcome: Literal["already complete", "published again"]
) -> RunResult:
    """The result of a run that an earlier start completed, without its scores."""
    manifest = published.manifest
    counts, reused = manifest.counts, manifest.content.get("incremental")
    return RunResult(
        outcome=outcome,
        folder=published.folder,
        run_id=manifest.run_id,
        counts=counts,
        expected_rows=counts.rows,
        resumed_rows=counts.rows,
        limits=setup.job.run,
        engine=manifest.content["engine"],
        incremental=ReuseCounts(**reused) if reused else None,
        samples=setup.samples,
        price=setup.job.model.price,
    )


def already_complete(
    published: PublishedRun, setup: Setup, passes: ScoringPasses, reporter: Reporter
) -> RunResult:
    """The result of a run that an earlier start completed; scored again if only the evaluation changed."""
    folder, manifest, evaluation = published.folder, published.manifest, setup.evaluation
    clean(folder)
    if published.job_issue():
        _write_job_again(published, setup)
    result = complete_result(published, setup, "already complete")
    rows: Sequence[MetricRow]
    gates: Sequence[GateResult]
    try:
        if manifest.evaluation.get("fingerprint") == evaluation.fingerprint:
            rows = read_metrics(folder.metrics) if evaluation.measures else []
            before = recorded_earlier(manifest.evaluation, folder)
            gates = decide_gates(evaluation.section.gates, rows, folder, folder.path, before=before)
        else:
            job, transform = setup.loaded.dump(), passes.add_likelihood_columns
            report_removed_metrics(manifest, evaluation, reporter)
            add_report = stage_report if setup.job.output.report else None
            scored = rescore_run(
                published, evaluation, job=job, transform=transform, add_report=add_report
            )
            rows, gates = scored.metrics, scored.gates
            passes.cache.delete_unused()
    except StoppedError:
        return replace(result, outcome="stopped")
    if setup.job.output.report and not exists(folder.report):
        write_report(folder.path)
    return replace(result, metrics=rows, gates=gates)


def _write_job_again(published: PublishedRun, setup: Setup) -> None:
    """Replace a job.yaml that was edited or deleted by the one of this start, which has the same fingerprints."""
    folder, mode = published.folder, published.file_mode
    if irregular(folder.job) == "a folder":  # anything else is replaced
        check_regular(folder.job)
    folder.write_text(folder.job, setup.loaded.dump(), stage="job", mode=mode)
    content = {**published.manifest.content, JOB_HASH: sha256(folder.job)}
    folder.write_json(folder.manifest, content, stage="manifest", mode=mode)


def clean(folder: RunFolder) -> None:
    """Delete what only an unfinished run, or an interrupted scoring, needs."""
    with disk_errors("cannot delete", folder.retry):
        if exists(folder.retry):  # on a read-only disk not even an absent file can be deleted
            folder.retry.unlink()
        for each in (folder.staged, folder.claims, folder.shards):
            if exists(each):
                shutil.rmtree(each)
    clear_parts(folder)
    remove(folder.journal)
    running = folder.journal.with_suffix(".running")
    if irregular(running) == "a link":
        with disk_errors("cannot delete", running):
            running.unlink()
    check_regular(running)


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
        **({"adapter": adapter.record()} if (adapter := setup.model.adapter) else {}),
    }
