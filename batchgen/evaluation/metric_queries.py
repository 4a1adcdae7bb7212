"""The questions of likelihood metrics: after its own prompt, how likely is each text that a metric names?

The context is what `run` asked: the column `messages` through chat template and generation prompt, and the job's
prefill. Knows nothing of engines.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.arrow.row_filter import RowFilter
from batchgen.errors import Problem
from batchgen.evaluation.answers import ColumnMap, LazyColumns, read_answers
from batchgen.evaluation.model_queries.query import LikelihoodQuery, QuerySource
from batchgen.evaluation.model_queries.scoring_model import ScoringModel
from batchgen.evaluation.resolve_evaluation import Evaluation, resolve_evaluation
from batchgen.job.spec import Job
from batchgen.metrics.base import Answer
from batchgen.metrics.told import ModelMetric, is_model_metric, likelihood_column
from batchgen.prompts.templates.sandbox import Template
from batchgen.prompts.tokenize import ContinuedPrompt
from batchgen.records import Failure, Message, Prompt

_NO_PROMPT = Failure("prompt_null", "the row has no prompt")
_EMPTY = Failure("continuation_empty", "the text to be scored is empty")


@dataclass(frozen=True, slots=True)
class _QueryingMetric:
    metric: ModelMetric
    where: RowFilter | None

    def texts(self, table: pa.Table, answers: Sequence[Answer]) -> list[tuple[str, ...]]:
        """What it wants to know about each row of a table; nothing where it is not asked about the row."""
        mask = [True] * len(answers) if self.where is None else self.where.mask(table).tolist()
        return [
            tuple(self.metric.continuations(answer)) if asked else ()
            for answer, asked in zip(answers, mask, strict=True)
        ]


def build_metric_queries(
    evaluation: Evaluation, origin: ColumnMap, schema: pa.Schema, model: ScoringModel
) -> list[QuerySource]:
    """What an evaluation asks its model; nothing if no metric does.

    Raises:
        JobKeyError: a condition that does not go with the columns.
    """
    asks = any(is_model_metric(measure.metric) for measure in evaluation.measures)
    return [MetricQueries(evaluation, origin, schema, model)] if asks else []


def prefill_problems(job: Job, columns: Collection[str]) -> list[Problem]:
    """Columns that the prefill reads, and that are not written beside the answers, where a metric asks the model."""
    measures = resolve_evaluation(job.evaluate).measures
    if not any(is_model_metric(measure.metric) for measure in measures):
        return []
    return [
        Problem(
            "output.keep_columns",
            f"prompt.prefill reads the column {name!r}, which is not kept: a metric asks the model what follows the prompt",
            "Keep it beside the answers.",
        )
        for name in Template(job.prompt.prefill or "", "prompt.prefill").columns
        if name not in columns
    ]


class MetricQueries:
    """What the likelihood metrics of an evaluation ask. See `QuerySource`."""

    def __init__(
        self, evaluation: Evaluation, origin: ColumnMap, schema: pa.Schema, model: ScoringModel
    ) -> None:
        """Get ready.

        Args:
            evaluation: its likelihood metrics are meant.
            origin: where in the tables the parts of an answer are.
            schema: of the tables.
            model: whose tokenizer and prompt section make the contexts.

        Raises:
            JobKeyError: a condition that does not go with the columns.
        """
        self._askers = [
            _QueryingMetric(
                m.metric,
                None if m.where is None else RowFilter(m.where, schema, f"{m.key}.where"),
            )
            for m in evaluation.measures
            if is_model_metric(m.metric)
        ]
        self.columns = tuple(likelihood_column(asker.metric.spec.name) for asker in self._askers)
        self._origin = origin
        self._model = model
        self._prefill = Template(model.job.prompt.prefill or "", "prompt.prefill")

    def ask(self, table: pa.Table) -> list[list[list[LikelihoodQuery | Failure]]]:
        """See `QuerySource`."""
        answers = read_answers(table, self._origin, 0)
        wanted = [asker.texts(table, answers) for asker in self._askers]
        everything = [tuple(dict.fromkeys(sum(texts, ()))) for texts in zip(*wanted, strict=True)]
        continued = self._continued(table, everything)
        return [
            [
                [continued[row].get(text, _NO_PROMPT) for text in texts]
                for row, texts in enumerate(of_metric)
            ]
            for of_metric in wanted
        ]

    def _continued(
        self, table: pa.Table, texts: Sequence[Sequence[str]]
    ) -> list[dict[str, LikelihoodQuery | Failure]]:
        """For each row, what is to be asked about each of its texts."""
        prompts = self._prompts(table)
        asked = [k for k, prompt in enumerate(prompts) if isinstance(prompt, Prompt) and texts[k]]
        sound = [prompt for k in asked if isinstance(prompt := prompts[k], Prompt)]
        encoded = self._model.tokenizer.encode_after(sound, [texts[k] for k in asked])
        found: list[dict[str, LikelihoodQuery | Failure]] = [
            dict.fromkeys(of_row, prompt if isinstance(prompt, Failure) else _NO_PROMPT)
            for of_row, prompt in zip(texts, prompts, strict=True)
        ]
        for k, one in zip(asked, encoded, strict=True):
            if isinstance(one, Failure):
                found[k] = dict.fromkeys(texts[k], one)
                continue
            found[k] = {
                text: self._given(one, token_ids)
                for text, token_ids in zip(texts[k], one.texts, strict=True)
            }
        return found

    def _given(
        self, continued: ContinuedPrompt, token_ids: Sequence[int]
    ) -> LikelihoodQuery | Failure:
        length, limit = len(continued.context) + len(token_ids), self._model.context_length
        if not token_ids:
            return _EMPTY
        if length > limit:
            return Failure(
                "continuation_too_long",
                f"prompt and text have {length:,} tokens, the model's context {limit:,}",
            )
        return LikelihoodQuery(continued.context, token_ids)

    def _prompts(self, table: pa.Table) -> list[Prompt | Failure]:
        """What each row was asked."""
        if self._origin.messages is None:
            return [_NO_PROMPT] * table.num_rows
        fields = LazyColumns(table)
        found: list[Prompt | Failure] = []
        for row, said in enumerate(fields.column(self._origin.messages)):
            cells = {name: fields.column(name)[row] for name in self._prefill.columns}
            prefill = self._prefill.render(cells)
            if isinstance(prefill, Failure):
                found.append(prefill)
                continue
            messages = _messages(said)
            found.append(Prompt(row, str(row), messages, prefill) if messages else _NO_PROMPT)
        return found


def _messages(cell: Any) -> tuple[Message, ...]:  # noqa: ANN401  (a cell of a table)
    """The turns of a conversation; none where the row has none, or they cannot be read."""
    if not isinstance(cell, list):
        return ()
    roles = {"system", "user", "assistant"}
    if not all(isinstance(m, dict) and m.get("role") in roles for m in cell):
        return ()
    return tuple(Message(m["role"], str(m.get("content") or "")) for m in cell)
