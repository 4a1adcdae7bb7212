"""Stage answers with their scores, for `run` and `score`.

tables ──Scorer──┬──> responses.parquet, or responses/
├──> scores.parquet
└──> metrics.parquet, after all rows
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchgen.evaluation.aggregate import Aggregate
from batchgen.evaluation.answers import ColumnMap, Tables
from batchgen.evaluation.resolve_evaluation import Evaluation, JobMetric
from batchgen.evaluation.scorer import Scorer
from batchgen.output.publish import Stage
from batchgen.output.published_run import FileLayout
from batchgen.output.score_tables import METRICS, SCORES, metrics_table
from batchgen.records import MetricRow
from batchgen.storage.durable import disk_errors


@dataclass(frozen=True, slots=True)
class StagedAnswers:
    """The answers to score.

    Attributes:
        tables: opens a new stream of the answers.
        schema: of the written files; the tables may have further columns that metrics read.
        layout: of the written files.
    """

    tables: Tables
    schema: pa.Schema
    layout: FileLayout


def stage_answers(stage: Stage, answers: StagedAnswers, scorer: Scorer) -> list[MetricRow]:
    """Stage answers with their scores; return the rows of metrics.parquet.

    The answers are read once, and again for each metric of the whole set and each slice. The scorer must be a new one.

    Raises:
        StateError: the answers are damaged.
        ResourceError: the disk is full or read-only.
    """
    stage = replace(stage, facts={**stage.facts, "evaluate": scorer.evaluation.record})
    stage.clear()
    with disk_errors("cannot write into", stage.folder.path):
        if not scorer.evaluation.measures:
            _copy(stage, answers)
            return []
        _score(stage, answers, scorer)
        rows = _metric_rows(scorer.evaluation, scorer.aggregates(answers.tables))
        with stage.file(stage.folder.metrics.name, METRICS) as write:
            write(metrics_table(rows))
        return rows


def _copy(stage: Stage, answers: StagedAnswers) -> None:
    with stage.responses(answers.schema, answers.layout) as write:
        for table in answers.tables():
            write(table)


def _score(stage: Stage, answers: StagedAnswers, scorer: Scorer) -> None:
    schema = scorer.schema(answers.schema)
    with (
        stage.responses(schema, answers.layout) as write,
        stage.file(stage.folder.scores.name, SCORES) as write_detail,
    ):
        for table in answers.tables():
            scored = scorer.score(table)
            write(scored.table.select(schema.names))
            write_detail(scored.detail)


def run_scorer(evaluation: Evaluation, schema: pa.Schema, prefix: str, samples: int) -> Scorer:
    """Build the scorer for the tables of a run, with `samples` answers per row.

    Raises:
        JobKeyError: a condition does not fit the columns.
    """
    return Scorer(evaluation, run_origin(evaluation, prefix, samples), schema, prefix)


def run_origin(evaluation: Evaluation, prefix: str, samples: int) -> ColumnMap:
    """The columns of a run's own tables; arguments as for `run_scorer`."""
    return ColumnMap(
        response=f"{prefix}response",
        id=f"{prefix}id",
        sample=f"{prefix}sample" if samples > 1 else None,
        messages=f"{prefix}messages",
        output_tokens=f"{prefix}output_tokens",
        finish_reason=f"{prefix}finish_reason",
        prompt_hash=f"{prefix}prompt_hash",
        references=evaluation.references,
        reasoning=evaluation.reasoning,
    )


def _metric_rows(evaluation: Evaluation, aggregates: Sequence[Aggregate]) -> list[MetricRow]:
    measures = {measure.name: measure for measure in evaluation.measures}
    return [_metric_row(evaluation, measures[a.spec.name], a) for a in aggregates]


def _metric_row(evaluation: Evaluation, measure: JobMetric, aggregate: Aggregate) -> MetricRow:
    estimate, spec = aggregate.estimate, aggregate.spec
    return MetricRow(
        metric=measure.name,
        slice=aggregate.slice,
        value=estimate.value,
        n=aggregate.n,
        coverage=aggregate.coverage,
        stderr=estimate.stderr,
        ci_low=estimate.low,
        ci_high=estimate.high,
        ci_level=evaluation.confidence.level,
        method=estimate.method,
        unit=spec.unit,
        higher_is_better=spec.higher_is_better,
        primary=measure.primary,
        fingerprint=measure.fingerprint,
        seed=evaluation.confidence.seed if estimate.method == "bootstrap" else None,
    )
