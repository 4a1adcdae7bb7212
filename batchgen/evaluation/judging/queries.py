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
from batchgen.metrics.references import UnreadableCellError, scalar_texts
from batchgen.records import Failure


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer to be judged. `messages` is the prompt, a list of {role, content}; None where unknown."""

    answer: Answer
    messages: Sequence[Mapping[str, str]] | None
    key: AnswerKey


class JudgeQueries:
    """The queries of a judge; a `QuerySource`."""

    def __init__(self, prepared: PreparedJudge, origin: ColumnMap, schema: pa.Schema) -> None:
        """Compile the judge's condition against `schema`."""
        self.columns = (likelihood_column(prepared.judge.name),)
        self._prepared = prepared
        self._origin = origin
        where = prepared.judge.where
        self._where = None if where is None else RowFilter(where, schema, f"{prepared.key}.where")

    def queries(self, table: pa.Table) -> list[list[list[Query]]]:
        """For each row, every label after every context; none for rows that are not judged."""
        answers = read_answers(table, self._origin, 0)
        mask = [True] * len(answers) if self._where is None else self._where.mask(table).tolist()
        chosen = [k for k, answer in enumerate(answers) if mask[k] and answer.response is not None]
        fields, origin = LazyColumns(table), self._origin
        unknown = [None] * len(answers)
        messages = fields.column(origin.messages) if origin.messages else unknown
        hashes = fields.column(origin.prompt_hash) if origin.prompt_hash else unknown
        judged = []
        for k in chosen:
            key = AnswerKey(answers[k].id, answers[k].sample, hashes[k])
            judged.append(JudgedAnswer(answers[k], messages[k], key))
        queries = dict(zip(chosen, queries_of(self._prepared, judged), strict=True))
        return [[queries.get(k, []) for k in range(len(answers))]]


def queries_of(prepared: PreparedJudge, judged: Sequence[JudgedAnswer]) -> list[list[Query]]:
    """The queries about each answer: the labels in one order, then in the other; or a known result."""
    others = _baseline_answers(prepared, judged)
    pairs = list(zip(judged, others, strict=True))
    states = [_state(prepared, one.answer, other) for one, other in pairs]
    cases = [
        case
        for (one, other), state in zip(pairs, states, strict=True)
        if state is None
        for case in _cases(prepared, one, other.text)
    ]
    encoded = iter(prepared.prompts.encode_cases(cases))
    orders = 1 if prepared.judge.mode == "rubric" else 2
    return [
        [KnownResult(state)] if state else _labels(prepared, [next(encoded) for _ in range(orders)])
        for state in states
    ]


def _baseline_answers(
    prepared: PreparedJudge, judged: Sequence[JudgedAnswer]
) -> list[BaselineAnswer]:
    if prepared.baseline is not None:
        return find_baseline_answers(prepared.baseline, [one.key for one in judged])
    column = prepared.judge.column
    if column is None:
        return [BaselineAnswer(None)] * len(judged)
    values = (one.answer.fields[column] for one in judged)
    return [_baseline_answer(value) for value in values]


def _baseline_answer(cell: object) -> BaselineAnswer:
    try:
        return BaselineAnswer(next(iter(scalar_texts(cell)), None))
    except UnreadableCellError:
        return BaselineAnswer(None, readable=False)


def _state(prepared: PreparedJudge, answer: Answer, other: BaselineAnswer) -> JudgeState | None:
    """The verdict that needs no model; None where it needs one."""
    empty = not (answer.response or "").strip()
    if not other.readable or (prepared.judge.reference == "show" and not answer.readable):
        return "unreadable"
    if prepared.judge.mode == "rubric":
        return "empty" if empty else None
    if other.text is None:
        return "different_prompt" if other.different_prompt else "no_baseline"
    if not other.text.strip():
        return "both_empty" if empty else "empty_baseline"
    return "empty" if empty else None


def _cases(prepared: PreparedJudge, judged: JudgedAnswer, other: str | None) -> list[JudgeCase]:
    """The answer alone; or with the other answer, in both orders: first, then second."""
    answer = judged.answer
    shows = prepared.judge.reference == "show" and answer.references
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


def _labels(prepared: PreparedJudge, orders: Sequence[EncodedCase | Failure]) -> list[Query]:
    encoded = []
    for one in orders:
        if isinstance(one, Failure):
            return [one]
        encoded.append(one)
    note: JudgeState = "cut" if any(one.was_cut for one in encoded) else "judged"
    labels = prepared.prompts.labels.token_ids
    return [LikelihoodQuery(one.context, tokens, note) for one in encoded for tokens in labels]
