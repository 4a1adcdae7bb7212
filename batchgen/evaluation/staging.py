"""Stage answers with their scores, for `run` and `score`: responses, scores.parquet and, after all rows, metrics.parquet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchgen.evaluation.aggregate import Aggregate
from batchgen.evaluation.answers import ColumnMap, Tables
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.evaluation.scorer import Scorer
from batchgen.output.publish import Stage
from batchgen.output.published_run import FileLayout
from batchgen.output.score_tables import METRICS, SCORES, metrics_table
from batchgen.records import MetricRow
from batchgen.storage.durable import disk_errors


@dataclass(frozen=True, slots=True)
class StagedAnswers:
    """The answers to score. `schema` is that of the written files; the tables may have further columns that metrics read."""

    tables: Tables
    schema: pa.Schema
    layout: FileLayout


def stage_answers(stage: Stage, answers: StagedAnswers, scorer: Scorer) -> list[MetricRow]:
    """Stage answers with their scores; return the rows of metrics.parquet.

    The answers are read for the rows, and again for each metric of the whole set and each slice. The scorer must be a new one.
    """
    stage = replace(stage, facts={**stage.facts, "evaluate": scorer.evaluation.record})
    stage.clear()
    with disk_errors("cannot write into", stage.folder.path):
        if scorer.evaluation.measures:
            return _score(stage, answers, scorer)
        with stage.responses(answers.schema, answers.layout) as write:
            for table in answers.tables():
                write(table)
        return []


def _score(stage: Stage, answers: StagedAnswers, scorer: Scorer) -> list[MetricRow]:
    schema = scorer.schema(answers.schema)
    with (
        stage.responses(schema, answers.layout) as write,
        stage.file(stage.folder.scores.name, SCORES) as write_detail,
    ):
        for table in answers.tables():
            scored = scorer.score(table)
            write(scored.table.select(schema.names))
            write_detail(scored.detail)
    rows = _metric_rows(scorer.evaluation, scorer.aggregates(answers.tables))
    with stage.file(stage.folder.metrics.name, METRICS) as write:
        write(metrics_table(rows))
    return rows


def run_origin(evaluation: Evaluation, prefix: str, samples: int) -> ColumnMap:
    """The columns of a run's own tables, with `samples` answers per row."""
    return ColumnMap(
        response=f"{prefix}response",
        id=f"{prefix}id",
        sample=f"{prefix}sample" if samples > 1 else None,
        messages=f"{prefix}messages",
        output_tokens=f"{prefix}output_tokens",
        finish_reason=f"{prefix}finish_reason",
        prompt_hash=f"{prefix}prompt_hash",
        references=evaluation.references,
        reasoning=evaluation.section.reasoning,
    )


def _metric_rows(evaluation: Evaluation, aggregates: Sequence[Aggregate]) -> list[MetricRow]:
    measures = {measure.name: measure for measure in evaluation.measures}
    rows = []
    for aggregate in aggregates:
        estimate, spec = aggregate.estimate, aggregate.spec
        row = MetricRow(
            metric=spec.name,
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
            primary=measures[spec.name].primary,
            fingerprint=measures[spec.name].fingerprint,
            seed=evaluation.confidence.seed if estimate.method == "bootstrap" else None,
            least=spec.value_range.least if spec.value_range else None,
            most=spec.value_range.most if spec.value_range else None,
        )
        rows.append(row)
    return rows
