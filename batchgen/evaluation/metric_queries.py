"""The queries of likelihood metrics: how likely is each of a metric's texts after the row's own prompt?"""

from collections.abc import Collection, Sequence

import pyarrow as pa

from batchgen.arrow.row_filter import RowFilter
from batchgen.errors import Problem
from batchgen.evaluation.answers import ColumnMap, read_answers
from batchgen.evaluation.model_queries.after_prompt import AfterPromptQueries, prefill_template
from batchgen.evaluation.model_queries.query import Query
from batchgen.evaluation.model_queries.scoring_model import ScoringModel
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.job.spec import Job
from batchgen.metrics.base import Answer
from batchgen.metrics.likelihood import AfterPrompt
from batchgen.metrics.likelihood_columns import ModelMetric, is_model_metric, likelihood_column


def prefill_problems(job: Job, evaluation: Evaluation, columns: Collection[str]) -> list[Problem]:
    """Columns of the prefill that are not kept in the output, where the model is queried about the prompts again."""
    queried = any(is_model_metric(measure.metric) for measure in evaluation.measures)
    if not queried and job.output.choice_probabilities is not True:
        return []
    return [
        Problem(
            "output.keep_columns",
            f"prompt.prefill reads the column {name!r}, which is not kept; it is needed to build the prompt again",
            f"Add {name!r} to output.keep_columns.",
        )
        for name in prefill_template(job).columns
        if name not in columns
    ]


class MetricQueries:
    """The queries of an evaluation's likelihood metrics; a `QuerySource`."""

    def __init__(
        self, evaluation: Evaluation, origin: ColumnMap, schema: pa.Schema, model: ScoringModel
    ) -> None:
        """Compile the conditions of the metrics against `schema`."""
        self._metrics = [
            (m.metric, None if m.where is None else RowFilter(m.where, schema, f"{m.key}.where"))
            for m in evaluation.measures
            if is_model_metric(m.metric)
        ]
        self.columns = tuple(likelihood_column(metric.spec.name) for metric, _ in self._metrics)
        self._origin = origin
        self._after_prompt = AfterPromptQueries(origin, model)

    def queries(self, table: pa.Table) -> list[list[list[Query]]]:
        """For each metric, for each row, a query for each text."""
        answers = read_answers(table, self._origin, 0)
        wanted = [_texts(metric, where, table, answers) for metric, where in self._metrics]
        distinct = [tuple(dict.fromkeys(sum(texts, ()))) for texts in zip(*wanted, strict=True)]
        encoded = self._after_prompt.encode(table, distinct)
        return [
            [
                [self._after_prompt.query(encoded[row][text], metric.stride) for text in texts]
                for row, texts in enumerate(of_metric)
            ]
            for (metric, _), of_metric in zip(self._metrics, wanted, strict=True)
        ]


def _texts(
    metric: ModelMetric, where: RowFilter | None, table: pa.Table, answers: Sequence[Answer]
) -> list[tuple[str, ...]]:
    """The texts of a metric for each row; none for rows that `where` excludes."""
    mask = [True] * len(answers) if where is None else where.mask(table).tolist()
    return [
        tuple(metric.continuations(answer)) if chosen else ()
        for answer, chosen in zip(answers, mask, strict=True)
    ]


def queries_models(job: Job) -> bool:
    """Whether models are queried about the answers of a job before they are scored."""
    metrics = any(isinstance(one, AfterPrompt) for one in job.evaluate.metrics)
    return metrics or bool(job.evaluate.judges) or job.output.choice_probabilities is True
