"""The queries of likelihood metrics: how likely is each of a metric's texts after the row's own prompt?

The context is the one of `run`: the column `messages` through chat template and generation prompt, and the job's prefill.
"""

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from batchgen.arrow.row_filter import RowFilter
from batchgen.errors import Problem
from batchgen.evaluation.answers import ColumnMap, LazyColumns, read_answers
from batchgen.evaluation.model_queries.query import LikelihoodQuery
from batchgen.evaluation.model_queries.scoring_model import ScoringModel
from batchgen.evaluation.resolve_evaluation import Evaluation
from batchgen.job.spec import Job
from batchgen.metrics.base import Answer
from batchgen.metrics.likelihood_columns import ModelMetric, is_model_metric, likelihood_column
from batchgen.prompts.templates.sandbox import Template
from batchgen.prompts.tokenize import ContinuedPrompt
from batchgen.records import Failure, Message, Prompt

_NO_PROMPT = Failure("prompt_null", "the row has no prompt")


def prefill_problems(job: Job, evaluation: Evaluation, columns: Collection[str]) -> list[Problem]:
    """Columns of the prefill that are not kept in the output, where a metric queries the model."""
    if not any(is_model_metric(measure.metric) for measure in evaluation.measures):
        return []
    return [
        Problem(
            "output.keep_columns",
            f"prompt.prefill reads the column {name!r}, which is not kept; a metric needs it to build the prompt again",
            f"Add {name!r} to output.keep_columns.",
        )
        for name in _prefill(job).columns
        if name not in columns
    ]


def _prefill(job: Job) -> Template:
    return Template(job.prompt.prefill or "", "prompt.prefill")


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
        self._model = model
        self._prefill = _prefill(model.job)

    def queries(self, table: pa.Table) -> list[list[list[LikelihoodQuery | Failure]]]:
        """For each metric, for each row, a query for each text."""
        answers = read_answers(table, self._origin, 0)
        wanted = [_texts(metric, where, table, answers) for metric, where in self._metrics]
        distinct = [tuple(dict.fromkeys(sum(texts, ()))) for texts in zip(*wanted, strict=True)]
        queries = self._by_text(table, distinct)
        return [
            [[queries[row][text] for text in texts] for row, texts in enumerate(of_metric)]
            for of_metric in wanted
        ]

    def _by_text(
        self, table: pa.Table, texts: Sequence[Sequence[str]]
    ) -> list[dict[str, LikelihoodQuery | Failure]]:
        prompts = self._prompts(table)
        rows = [k for k, prompt in enumerate(prompts) if isinstance(prompt, Prompt) and texts[k]]
        encoded = self._model.tokenizer.encode_after(
            [p for k in rows if isinstance(p := prompts[k], Prompt)], [texts[k] for k in rows]
        )
        of_row = dict(zip(rows, encoded, strict=True))
        queries: list[dict[str, LikelihoodQuery | Failure]] = []
        for row, prompt in enumerate(prompts):
            one = of_row.get(row, prompt)
            if isinstance(one, ContinuedPrompt):
                made = (self._query(one, token_ids) for token_ids in one.texts)
                queries.append(dict(zip(texts[row], made, strict=True)))
            else:
                failure = one if isinstance(one, Failure) else _NO_PROMPT
                queries.append(dict.fromkeys(texts[row], failure))
        return queries

    def _query(
        self, continued: ContinuedPrompt, token_ids: Sequence[int]
    ) -> LikelihoodQuery | Failure:
        length, limit = len(continued.context) + len(token_ids), self._model.context_length
        if not token_ids:
            return Failure("continuation_empty", "the text to be scored is empty")
        if length > limit:
            problem = f"prompt and text have {length:,} tokens, the model's context {limit:,}"
            return Failure("continuation_too_long", problem)
        return LikelihoodQuery(continued.context, token_ids)

    def _prompts(self, table: pa.Table) -> list[Prompt | Failure]:
        if self._origin.messages is None:
            return [_NO_PROMPT] * table.num_rows
        fields = LazyColumns(table)
        prompts: list[Prompt | Failure] = []
        for row, cell in enumerate(fields.column(self._origin.messages)):
            cells = {name: fields.column(name)[row] for name in self._prefill.columns}
            prefill, messages = self._prefill.render(cells), _messages(cell)
            if isinstance(prefill, Failure):
                prompts.append(prefill)
            else:
                sound = Prompt(row, str(row), messages, prefill)
                prompts.append(sound if messages else _NO_PROMPT)
        return prompts


def _texts(
    metric: ModelMetric, where: RowFilter | None, table: pa.Table, answers: Sequence[Answer]
) -> list[tuple[str, ...]]:
    """The texts of a metric for each row; none for rows that `where` excludes."""
    mask = [True] * len(answers) if where is None else where.mask(table).tolist()
    return [
        tuple(metric.continuations(answer)) if chosen else ()
        for answer, chosen in zip(answers, mask, strict=True)
    ]


def _messages(cell: Any) -> tuple[Message, ...]:  # noqa: ANN401  (a cell of a table)
    """The turns of a conversation; empty where the row has none, or they cannot be read."""
    if not isinstance(cell, list):
        return ()
    roles = {"system", "user", "assistant"}
    if not all(isinstance(m, dict) and m.get("role") in roles for m in cell):
        return ()
    return tuple(Message(m["role"], str(m.get("content") or "")) for m in cell)
