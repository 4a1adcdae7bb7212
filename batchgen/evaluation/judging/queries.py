"""The queries of a judge: how likely is each label after the prompt that shows an answer?

    answers ──with the other answer──> cases ──in both orders──> contexts, each with every label ──> scoring pass

`verdicts.py` reads the results.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from batchgen.arrow.row_filter import RowFilter
from batchgen.evaluation.answers import ColumnMap, LazyColumns, read_answers
from batchgen.evaluation.judging.baseline_answers import (
    AnswerKey,
    BaselineAnswer,
    find_baseline_answers,
)
from batchgen.evaluation.judging.prepare_judges import PreparedJudge
from batchgen.evaluation.judging.prompts import EncodedCase, JudgeCase
from batchgen.evaluation.judging.scores import JudgeState
from batchgen.evaluation.model_queries.query import KnownResult, LikelihoodQuery, Query
from batchgen.metrics.base import Answer
from batchgen.metrics.likelihood_columns import likelihood_column
from batchgen.records import Failure


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer to be judged.

    Attributes:
        answer: has a response.
        messages: of the prompt, a list of {role, content}; None where unknown.
        key: of the other answer.
    """

    answer: Answer
    messages: Sequence[Mapping[str, str]] | None
    key: AnswerKey


class JudgeQueries:
    """The queries of a judge; a `QuerySource`."""

    def __init__(self, ready: PreparedJudge, origin: ColumnMap, schema: pa.Schema) -> None:
        """Compile the judge's condition against `schema`.

        Raises:
            JobKeyError: the condition does not fit the columns.
        """
        self.columns = (likelihood_column(ready.judge.name),)
        self._ready = ready
        self._origin = origin
        where = ready.judge.where
        self._where = None if where is None else RowFilter(where, schema, f"{ready.key}.where")

    def queries(self, table: pa.Table) -> list[list[list[Query]]]:
        """For each row, every label after every context; none for rows that are not judged."""
        answers = read_answers(table, self._origin, 0)
        mask = [True] * len(answers) if self._where is None else self._where.mask(table).tolist()
        chosen = [k for k, answer in enumerate(answers) if mask[k] and answer.response is not None]
        fields, origin = LazyColumns(table), self._origin
        unknown = [None] * len(answers)
        messages = fields.column(origin.messages) if origin.messages else unknown
        hashes = fields.column(origin.prompt_hash) if origin.prompt_hash else unknown
        judged = [
            JudgedAnswer(
                answers[k], messages[k], AnswerKey(answers[k].id, answers[k].sample, hashes[k])
            )
            for k in chosen
        ]
        found = dict(zip(chosen, queries_of(self._ready, judged), strict=True))
        return [[found.get(k, []) for k in range(len(answers))]]


def queries_of(ready: PreparedJudge, judged: Sequence[JudgedAnswer]) -> list[list[Query]]:
    """The queries about each answer: the labels in one order, then in the other; or a known result.

    Raises:
        StateError: the baseline run is damaged.
    """
    others = _baseline_answers(ready, judged)
    states = [_state(ready, one.answer, other) for one, other in zip(judged, others, strict=True)]
    cases = [
        case
        for one, other, state in zip(judged, others, states, strict=True)
        if state is None
        for case in _cases(ready, one, other.text)
    ]
    read = iter(ready.prompts.ask(cases))
    orders = 1 if ready.judge.mode == "rubric" else 2
    return [
        [KnownResult(state)] if state else _labels(ready, [next(read) for _ in range(orders)])
        for state in states
    ]


def _baseline_answers(ready: PreparedJudge, judged: Sequence[JudgedAnswer]) -> list[BaselineAnswer]:
    if ready.baseline is not None:
        return find_baseline_answers(ready.baseline, [one.key for one in judged])
    column = ready.judge.column
    if column is None:
        return [BaselineAnswer(None)] * len(judged)
    values = (one.answer.fields[column] for one in judged)
    return [BaselineAnswer(None if value is None else str(value)) for value in values]


def _state(ready: PreparedJudge, answer: Answer, other: BaselineAnswer) -> JudgeState | None:
    """The verdict that needs no model; None where it needs one."""
    empty = not (answer.response or "").strip()
    if ready.judge.mode == "rubric":
        return "empty" if empty else None
    if other.text is None:
        return "other_prompt" if other.different_prompt else "no_other"
    if not other.text.strip():
        return "both_empty" if empty else "other_empty"
    return "empty" if empty else None


def _cases(ready: PreparedJudge, judged: JudgedAnswer, other: str | None) -> list[JudgeCase]:
    """The answer alone; or with the other answer, in both orders: first, then second."""
    answer = judged.answer
    shows = ready.judge.reference == "show" and answer.references
    reference = answer.references[0] if shows else None
    response = answer.response or ""
    pairs = ((response,),) if other is None else ((response, other), (other, response))
    question = _conversation(judged.messages or ())
    return [JudgeCase(question, pair, reference) for pair in pairs]


def _conversation(messages: Sequence[Mapping[str, str]]) -> str:
    """The prompt; of several turns (solved examples are turns), each under its role."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def _labels(ready: PreparedJudge, orders: Sequence[EncodedCase | Failure]) -> list[Query]:
    failed = next((one for one in orders if isinstance(one, Failure)), None)
    if failed is not None:
        return [failed]
    asked = [one for one in orders if isinstance(one, EncodedCase)]
    note: JudgeState = "cut" if any(one.cut for one in asked) else "judged"
    labels = ready.prompts.labels.token_ids
    return [LikelihoodQuery(one.context, token_ids, note) for one in asked for token_ids in labels]
