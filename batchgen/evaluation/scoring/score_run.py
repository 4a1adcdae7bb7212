"""Score the published responses of a run again. Nothing is generated here.

    published responses ──(join)──> Scorer ──> new files, renamed over the old ones ──> manifest

Metrics that query a model read its log-likelihoods from columns, which `scoring_pass.py` adds before this pass.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchgen.arrow.nested_column import column_paths
from batchgen.engines.engine_registry import required_weights
from batchgen.errors import ExitCode, ResourceError, StateError, UsageError
from batchgen.evaluation.answers import Tables
from batchgen.evaluation.checks import STORED, resolve_and_check
from batchgen.evaluation.gates import GateResult, decide_gates
from batchgen.evaluation.gating.previous_run import earlier_record, recorded_earlier
from batchgen.evaluation.human_votes import add_vote_columns
from batchgen.evaluation.judging.prepare_judges import prepare_judges
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.evaluation.scoring.join import Join, JoinSpec, open_join
from batchgen.evaluation.scoring_models import ScoringModelOptions, model_of_run, scoring_passes
from batchgen.evaluation.staging import StagedAnswers, run_origin, stage_answers
from batchgen.job.evaluate import Evaluate, Reasoning
from batchgen.jobfile.load import load_stored_job
from batchgen.jobfile.renamed_keys import renamed_judge_metrics
from batchgen.metrics.base import MetricOptions
from batchgen.models.local_model import find_model
from batchgen.output.publish import Stage, finish_release
from batchgen.output.published_run import Manifest, PublishedRun
from batchgen.output.score_tables import SCORE_PREFIX
from batchgen.progress import Reporter
from batchgen.records import MetricRow
from batchgen.state.likelihood_cache import LikelihoodCache
from batchgen.state.lock import hold_lock
from batchgen.state.open_folder import open_folder
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists, is_folder
from batchgen.storage.failpoints import arm

ReportWriter = Callable[[Stage, Sequence[MetricRow], Mapping[str, Any]], None]
"""Stages a report, given the rows of metrics.parquet and the manifest that will be published."""


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The rows of metrics.parquet, and the decided gates."""

    folder: RunFolder
    metrics: Sequence[MetricRow]
    gates: Sequence[GateResult]

    @property
    def exit_code(self) -> ExitCode:
        passed = all(gate.passed for gate in self.gates)
        return ExitCode.DONE if passed else ExitCode.GATE_FAILED


def score_run(  # noqa: PLR0913  # the arguments of `score` that apply to a run
    path: Path,
    metrics: Sequence[MetricOptions] = (),
    *,
    references: tuple[str, ...] = (),
    reasoning: Reasoning | None = None,
    join_spec: JoinSpec | None = None,
    options: ScoringModelOptions | None = None,
    output: Path | None = None,
    add_report: ReportWriter | None = None,
) -> ScoreResult:
    """Score the responses of a run by the metrics of its job, and by further ones; see `score`.

    A further metric with the name of a job's metric replaces it. With `output`, the run's folder is only read. `add_report` is called
    if the job has `output.report`.
    """
    arm()
    folder = open_folder(path)
    target = _target_folder(folder, output)
    with hold_lock(target.lock):
        target.clear_scratch()
        finish_release(target)
        published = PublishedRun(folder)
        published.check(only_responses=True)
        if issue := published.job_issue():
            raise StateError(
                f"{folder.job} {issue.problem}",
                hint="Repeat the same `batchgen run` to write it again.",
            )
        loaded = load_stored_job(folder.job)
        section, prefix = loaded.job.evaluate, loaded.job.output.prefix
        names = {_name(metric) for metric in metrics}
        kept = [metric for metric in section.metrics if _name(metric) not in names]
        changed = {
            "metrics": (*kept, *metrics),
            "reference": references or section.reference,
            "reasoning": reasoning or section.reasoning,
        }
        join = open_join(join_spec, published.schema) if join_spec else None
        schema = published.schema if join is None else join.schema(published.schema)
        options = options or ScoringModelOptions()
        is_judge = any(judge.model is None for judge in section.judges)
        weights = required_weights(loaded.job.model)
        own = find_model(loaded, options.reporter, weights=weights) if is_judge else None
        evaluation = check_evaluation(section.model_copy(update=changed), schema, prefix=prefix)
        manifest = published.manifest
        judges = prepare_judges(
            loaded, own, options.reporter, recorded_dtype=manifest.settings["model"]["dtype"]
        )
        evaluation = evaluation.with_judges(judges)
        passes = scoring_passes(
            LikelihoodCache(target),
            options,
            model_of_run(options, loaded, evaluation, manifest=manifest.content),
            evaluation=evaluation,
            origin=run_origin(evaluation, prefix, manifest.samples),
            schema=schema,
        )
        report_removed_metrics(manifest, evaluation, options.reporter)
        result = rescore_run(
            published,
            evaluation,
            target=target,
            join=join,
            transform=passes.add_likelihood_columns,
            add_report=add_report if loaded.job.output.report else None,
        )
        passes.cache.delete_unused()
        return result


def _target_folder(run: RunFolder, output: Path | None) -> RunFolder:
    """The folder that the scores of a run are written into; ResourceError if that is not permitted."""
    if output is not None:
        target = score_folder(output)
        target.create()
        return target
    if not os.access(run.path, os.W_OK) or not run.is_private_readable:
        raise ResourceError(
            f"cannot write into {run.path}: Permission denied",
            hint="Write the scores elsewhere with --output FOLDER.",
        )
    run.create()  # `purge` deletes the folder for unfinished files
    return run


def score_folder(output: Path) -> RunFolder:
    """The folder for scores that are not written into a run; UsageError if it is a file, or holds a run."""
    folder = RunFolder(output.absolute())
    if exists(output) and not is_folder(output):
        raise UsageError(f"{output} is a file", hint="Choose a folder with --output.")
    if exists(folder.run) or exists(folder.manifest):
        raise UsageError(
            f"{output} is the output folder of a run", hint="Choose another folder with --output."
        )
    return folder


def _name(metric: MetricOptions) -> str:
    return metric.name or metric.type


def check_evaluation(
    evaluate: Evaluate, schema: pa.Schema, *, prefix: str = "", messages_hint: str = STORED
) -> Evaluation:
    """Resolve a section `evaluate` for tables with these columns; their columns of scores are ignored."""
    columns = [name for name in column_paths(schema) if not name.startswith(SCORE_PREFIX)]
    evaluation, problems = resolve_and_check(evaluate, columns, prefix, messages_hint=messages_hint)
    if problems:
        raise UsageError("\n".join(p.message for p in problems), hint=problems[0].hint)
    return evaluation


def rescore_run(  # noqa: PLR0913  # what is scored, into what, and what is added on the way
    published: PublishedRun,
    evaluation: Evaluation,
    *,
    target: RunFolder | None = None,
    join: Join | None = None,
    job: str | None = None,
    transform: Callable[[Tables], Tables] = lambda tables: tables,
    add_report: ReportWriter | None = None,
) -> ScoreResult:
    """Score the published responses of a run, which have been checked, and replace its files; needs the run's lock.

    With another folder as `target`, the files are written there, without a manifest; needs that folder's lock. `job` is the resolved job, if it changed since the responses were published. `transform` adds the columns that metrics
    with a model read. `add_report` stages a report of the new scores; without it, an old report is removed.
    """
    folder, manifest = published.folder, published.manifest
    schema = published.schema if join is None else join.schema(published.schema)
    origin = run_origin(evaluation, manifest.prefix, manifest.samples)
    scorer = Scorer(evaluation, origin, schema, manifest.prefix)
    compression = published.responses.compression
    target = target or folder
    stage = Stage(target, compression, published.file_mode, published.origin)

    def tables() -> Iterator[pa.Table]:
        for table in published.responses.row_groups(published.schema.names):
            yield join.add_columns(table) if join else table

    voted = add_vote_columns(
        transform(tables), evaluation, folder, run_id=manifest.run_id, prefix=manifest.prefix
    )
    answers = StagedAnswers(voted, published.schema, published.layout)
    rows = stage_answers(stage, answers, scorer)
    earlier = recorded_earlier(manifest.evaluation, folder)
    gates = decide_gates(evaluation.section.gates, rows, folder, target.staged, before=earlier)
    if job is not None:
        stage.text(folder.job.name, job)
    if target is not folder:
        stage.release(None)
        return ScoreResult(target, rows, gates)
    files = [asdict(file) for file in stage.files()]
    record = evaluation_record(scorer, gates, folder, earlier)
    content = {**manifest.content, "files": files, "evaluation": record}
    if add_report is not None:
        add_report(stage, rows, content)
    stage.release(content)
    return ScoreResult(folder, rows, gates)


def report_removed_metrics(manifest: Manifest, evaluation: Evaluation, reporter: Reporter) -> None:
    """Report the scores in the manifest that the new evaluation does not compute."""
    current = renamed_judge_metrics(judge.name for judge in evaluation.section.judges)
    before = [current.get(name, name) for name in manifest.evaluation.get("metrics", ())]
    if gone := [name for name in before if name not in evaluation.names]:
        reporter.info(f"scores removed: {', '.join(gone)}: neither in the job nor in this command")


def evaluation_record(
    scorer: Scorer, gates: Sequence[GateResult], folder: RunFolder, earlier: Path | None
) -> dict[str, Any]:
    """The section `evaluation` of the manifest in `folder`. `earlier` is the run of an earlier day that gates may compare with."""
    previous = earlier_record(earlier, folder)
    return {
        "fingerprint": scorer.evaluation.fingerprint,
        "metrics": list(scorer.evaluation.names),
        "columns": list(scorer.columns),
        "gates": [gate.plain() for gate in gates],
        **({"previous": previous} if previous else {}),
        "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
