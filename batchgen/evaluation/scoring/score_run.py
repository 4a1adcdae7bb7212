"""Score the published responses of a run again. Nothing is generated here.

    published responses ──(join)──> Scorer ──> new files, renamed over the old ones ──> manifest

Metrics that query a model read its log-likelihoods from columns, which `scoring_pass.py` adds before this pass.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchgen.errors import ExitCode, UsageError
from batchgen.evaluation.answers import Tables
from batchgen.evaluation.checks import STORED, resolve_and_check
from batchgen.evaluation.gates import GateResult, decide_gates
from batchgen.evaluation.judging.prepare_judges import PreparedJudge, prepare_judges
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.evaluation.scoring.join import Join, JoinSpec, open_join
from batchgen.evaluation.scoring_models import ScoringModelOptions, model_of_run, scoring_passes
from batchgen.evaluation.staging import StagedAnswers, run_origin, run_scorer, stage_answers
from batchgen.job.evaluate import Evaluate, Reasoning
from batchgen.jobfile.load import LoadedJob, load_stored_job
from batchgen.metrics.base import MetricOptions
from batchgen.models.local_model import find_model
from batchgen.output.publish import Stage, finish_release
from batchgen.output.published_run import Manifest, PublishedRun
from batchgen.output.score_tables import SCORE_PREFIX
from batchgen.progress import Reporter
from batchgen.records import MetricRow
from batchgen.state.lock import hold_lock
from batchgen.state.run_folder import RunFolder, open_folder
from batchgen.storage.failpoints import arm


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The rows of metrics.parquet, and the decided gates."""

    folder: RunFolder
    metrics: Sequence[MetricRow]
    gates: Sequence[GateResult]

    @property
    def exit_code(self) -> ExitCode:
        """Of the command."""
        passed = all(gate.passed for gate in self.gates)
        return ExitCode.DONE if passed else ExitCode.GATE_FAILED


def score_run(
    path: Path,
    metrics: Sequence[MetricOptions] = (),
    *,
    references: tuple[str, ...] = (),
    reasoning: Reasoning | None = None,
    join_spec: JoinSpec | None = None,
    asking: ScoringModelOptions | None = None,
) -> ScoreResult:
    """Score the responses of a run by the metrics of its job, and by further ones; see `score`.

    A further metric with the name of a job's metric replaces it.
    """
    arm()
    folder = open_folder(path)
    with hold_lock(folder.lock):
        folder.clear_scratch()
        finish_release(folder)
        published = PublishedRun(folder)
        published.check(only_responses=True)
        loaded = load_stored_job(folder.job)
        asked = loaded.job.evaluate
        names = {_name(metric) for metric in metrics}
        kept = [metric for metric in asked.metrics if _name(metric) not in names]
        changed = {
            "metrics": (*kept, *metrics),
            "reference": references or asked.reference,
            "reasoning": reasoning or asked.reasoning,
        }
        join = open_join(join_spec, published.schema) if join_spec else None
        wide = published.schema if join is None else join.schema(published.schema)
        asking = asking or ScoringModelOptions()
        judges = _judges(loaded, asking)
        prefix = loaded.job.output.prefix
        evaluation = check_evaluation(
            asked.model_copy(update=changed), wide, prefix=prefix
        ).with_judges(judges)
        manifest = published.manifest
        passes = scoring_passes(
            folder,
            asking,
            model_of_run(asking, loaded, evaluation, manifest=manifest.content),
            evaluation=evaluation,
            origin=run_origin(evaluation, prefix, manifest.samples),
            schema=wide,
        )
        report_removed_metrics(manifest, evaluation, asking.reporter)
        widen = passes.add_likelihood_columns
        result = rescore_run(published, evaluation, join=join, widen=widen)
        passes.cache.delete_unused()
        return result


def _judges(loaded: LoadedJob, asking: ScoringModelOptions) -> tuple[PreparedJudge, ...]:
    """The run's judges; the run's own model is located only if it is one of them."""
    itself = any(judge.model is None for judge in loaded.job.evaluate.judges)
    own = find_model(loaded, asking.reporter) if itself else None
    return prepare_judges(loaded, own, asking.reporter)


def _name(metric: MetricOptions) -> str:
    return metric.name or metric.type


def check_evaluation(
    evaluate: Evaluate,
    schema: pa.Schema,
    *,
    prefix: str = "",
    messages_hint: str = STORED,
) -> Evaluation:
    """Resolve a section `evaluate` for tables with these columns; their columns of scores are ignored.

    Raises:
        UsageError: columns or metrics of the section are missing.
        DataError: a metric lacks a file or a package.
    """
    columns = [name for name in schema.names if not name.startswith(SCORE_PREFIX)]
    found, problems = resolve_and_check(evaluate, columns, prefix, messages_hint=messages_hint)
    if problems:
        raise UsageError("\n".join(p.message for p in problems), hint=problems[0].hint)
    return found


def rescore_run(
    published: PublishedRun,
    evaluation: Evaluation,
    *,
    join: Join | None = None,
    job: str | None = None,
    widen: Callable[[Tables], Tables] = lambda tables: tables,
) -> ScoreResult:
    """Score the published responses of a run and replace its files. The caller holds the run's lock.

    Args:
        published: its responses have been checked.
        evaluation: the metrics and gates.
        join: columns of another file.
        job: the resolved job, if it changed since the responses were published.
        widen: adds the columns that metrics with a model read.

    Raises:
        StateError: the responses are damaged.
        JobKeyError: a condition does not fit the columns.
    """
    folder, manifest = published.folder, published.manifest
    wide = published.schema if join is None else join.schema(published.schema)
    scorer = run_scorer(evaluation, wide, manifest.prefix, manifest.samples)
    compression = published.responses.compression
    stage = Stage(folder, compression, published.file_mode, published.origin)

    def tables() -> Iterator[pa.Table]:
        for table in published.responses.row_groups(published.schema.names):
            yield join.add_columns(table) if join else table

    answers = StagedAnswers(widen(tables), published.schema, published.layout)
    rows = stage_answers(stage, answers, scorer)
    gates = decide_gates(evaluation.gates, rows, folder, folder.staged)
    if job is not None:
        stage.text(folder.job.name, job)
    files = [asdict(file) for file in stage.files()]
    record = evaluation_record(scorer, gates)
    stage.release({**manifest.content, "files": files, "evaluation": record})
    return ScoreResult(folder, rows, gates)


def report_removed_metrics(manifest: Manifest, evaluation: Evaluation, reporter: Reporter) -> None:
    """Report the scores in the manifest that the new evaluation does not compute."""
    before = manifest.evaluation.get("metrics", ())
    if gone := [name for name in before if name not in evaluation.names]:
        reporter.info(f"scores removed: {', '.join(gone)}: neither in the job nor in this command")


def evaluation_record(scorer: Scorer, gates: Sequence[GateResult]) -> dict[str, Any]:
    """The manifest's section `evaluation`."""
    return {
        "fingerprint": scorer.evaluation.fingerprint,
        "metrics": list(scorer.evaluation.names),
        "columns": list(scorer.columns),
        "gates": [asdict(gate) for gate in gates],
        "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
