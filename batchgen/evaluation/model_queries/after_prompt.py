"""Queries about texts after the row's own prompt.

The context is the one of `run`: the column `messages` through chat template and generation prompt, and the job's prefill.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from batchgen.evaluation.answers import ColumnMap, LazyColumns
from batchgen.evaluation.model_queries.query import LikelihoodQuery, Query, RollingQuery
from batchgen.evaluation.model_queries.scoring_model import ScoringModel
from batchgen.job.spec import Job
from batchgen.prompts.templates.sandbox import Template
from batchgen.prompts.tokenize import ContinuedPrompt
from batchgen.records import Failure, Message, Prompt
from batchgen.section import Auto

_NO_PROMPT = Failure("prompt_null", "the row has no prompt")
_NO_CONTEXT = Failure(
    "context_empty",
    "the prompt is empty and the tokenizer has no BOS token, so nothing precedes the first token of the text",
)


class EncodedText(NamedTuple):
    """The token ids of a text, and those before it."""

    context: Sequence[int]
    token_ids: Sequence[int]


def prefill_template(job: Job) -> Template:
    """The job's prefill, often empty."""
    return Template(job.prompt.prefill or "", "prompt.prefill")


class AfterPromptQueries:
    """Encodes texts after the prompts of rows, and makes queries of them."""

    def __init__(self, origin: ColumnMap, model: ScoringModel) -> None:
        self._origin = origin
        self._model = model
        self._prefill = prefill_template(model.job)

    def encode(
        self, table: pa.Table, texts: Sequence[Sequence[str]]
    ) -> list[dict[str, EncodedText | Failure]]:
        """For each row, its texts after its prompt."""
        prompts = self._prompts(table)
        rows = [k for k, prompt in enumerate(prompts) if isinstance(prompt, Prompt) and texts[k]]
        encoded = self._model.tokenizer.encode_after(
            [p for k in rows if isinstance(p := prompts[k], Prompt)], [texts[k] for k in rows]
        )
        of_row = dict(zip(rows, encoded, strict=True))
        by_text: list[dict[str, EncodedText | Failure]] = []
        for row, prompt in enumerate(prompts):
            one = of_row.get(row, prompt)
            if isinstance(one, ContinuedPrompt):
                made = (EncodedText(one.context, token_ids) for token_ids in one.texts)
                by_text.append(dict(zip(texts[row], made, strict=True)))
            else:
                failure = one if isinstance(one, Failure) else _NO_PROMPT
                by_text.append(dict.fromkeys(texts[row], failure))
        return by_text

    def query(self, one: EncodedText | Failure, stride: int | Auto | None) -> Query:
        """The query about a text; a failure if it cannot be sent. `stride`: see `ModelMetric.stride`."""
        if isinstance(one, Failure):
            return one
        if not one.token_ids:
            return Failure("continuation_empty", "the text to be scored is empty")
        bos = self._model.tokenizer.bos_token_id
        context = one.context or ([] if bos is None else [bos])
        if not context:
            return _NO_CONTEXT
        return self._query_about(context, one.token_ids, stride)

    def _query_about(
        self, context: Sequence[int], token_ids: Sequence[int], stride: int | Auto | None
    ) -> Query:
        length, limit = len(context) + len(token_ids), self._model.context_length
        if length <= limit:
            return LikelihoodQuery(context, token_ids)
        if stride is None or len(context) >= limit:
            problem = f"prompt and text have {length:,} tokens, the model's context {limit:,}"
            return Failure("continuation_too_long", problem)
        width = limit // 2 if stride == "auto" else min(stride, limit - 1)
        return RollingQuery.of(context, token_ids, length=limit, stride=width)

    def _prompts(self, table: pa.Table) -> list[Prompt | Failure]:
        if self._origin.messages is None:
            return [_NO_PROMPT] * table.num_rows
        fields = LazyColumns(table)
        named = [name for name in self._prefill.functions if name in table.column_names]
        prompts: list[Prompt | Failure] = []
        for row, cell in enumerate(fields.column(self._origin.messages)):
            cells = {name: fields.column(name)[row] for name in (*self._prefill.columns, *named)}
            prefill, messages = self._prefill.render(cells), _messages(cell)
            if isinstance(prefill, Failure):
                prompts.append(prefill)
            else:
                sound = Prompt(row, str(row), messages, prefill)
                prompts.append(sound if messages else _NO_PROMPT)
        return prompts


def _messages(cell: Any) -> tuple[Message, ...]:  # noqa: ANN401  (a cell of a table)
    """The turns of a conversation; empty where the row has none, or they cannot be read."""
    if not isinstance(cell, list):
        return ()
    roles = {"system", "user", "assistant"}
    if not all(isinstance(m, dict) and m.get("role") in roles for m in cell):
        return ()
    return tuple(Message(m["role"], str(m.get("content") or "")) for m in cell)
