"""Try a user's own metrics on one row before the first answer is generated, so that a broken one does not cost a night.

There is no answer yet: the function gets the row's reference, then made-up texts. A function that fails on all of them is
broken if it never reads the response, or if the error is one of its code. Otherwise it may work with the answers of the
model: the error is only reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import wraps

import numpy as np
import pyarrow as pa

from batchgen.arrow.row_filter import RowFilter
from batchgen.errors import Problem
from batchgen.evaluation.answers import ColumnMap, read_answers
from batchgen.evaluation.resolve_evaluation import Evaluation, JobMetric
from batchgen.input.sources import Chunk
from batchgen.metrics.base import Answer
from batchgen.metrics.user_function import CallProblem, UserFunction
from batchgen.progress import Reporter
from batchgen.run.requests import RequestBuilder
from batchgen.structured.answer_grammars import AnswerGrammars
from batchgen.structured.format_problems import cell_warnings

_ROWS = 256
"""So many first rows are looked at."""
_TEXTS = ("Answer: 42", "#### 42", '{"answer": "42", "score": 0.5}', "Yes.")
_HINT = "Correct the function; return None for an answer that has no score."


@dataclass(frozen=True, slots=True)
class TrialRows:
    """The first rows of the input.

    Attributes:
        table: with all columns of the output; those of the answers are null or empty.
        prompts: of the rows that have one, by their number in the table.
    """

    table: pa.Table
    prompts: Mapping[int, str]


def user_functions(evaluation: Evaluation) -> list[JobMetric]:
    """The metrics that are a user's own function."""
    return [m for m in evaluation.measures if isinstance(m.metric, UserFunction)]


def trial_problems(
    evaluation: Evaluation, origin: ColumnMap, rows: TrialRows, reporter: Reporter
) -> list[Problem]:
    """Try each user's function on the first row that it would score: the problems of those that cannot score any answer."""
    answers = read_answers(rows.table, origin, 0)
    problems = []
    for measure in user_functions(evaluation):
        answer = _first_scored(measure, rows, answers)
        found = None if answer is None else _trial(measure, answer)
        if found is None:
            continue
        message = f"{measure.name}, tried on the first row: {found.text}"
        if found.broken:
            problems.append(Problem(measure.key, message, _HINT))
        else:
            reporter.info(f"{message}; it may work with the model's answers")
    return problems


def trial_rows(
    chunk: Chunk | None, schema: pa.Schema, prefix: str, request_builder: RequestBuilder
) -> TrialRows:
    """The first rows of a chunk with the columns of `schema`, those of the output."""
    if chunk is None:
        return TrialRows(schema.empty_table(), {})
    rows = chunk.table.slice(0, _ROWS)
    made: dict[str, pa.Array] = {
        f"{prefix}id": pa.array(chunk.ids[: rows.num_rows]),
        f"{prefix}response": pa.array([""] * rows.num_rows),
        f"{prefix}sample": pa.array([0] * rows.num_rows),
        f"{prefix}finish_reason": pa.array(["stop"] * rows.num_rows),
    }
    columns = [
        made[field.name].cast(field.type)
        if field.name in made
        else rows.column(field.name).cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    pending = request_builder.prepare_rows(chunk.rows()[: rows.num_rows], chunk.failures)
    prompts = {
        row: "\n".join(message.content for message in one.prompt.messages)
        for row, one in enumerate(pending)
        if one.prompt is not None
    }
    return TrialRows(pa.Table.from_arrays(columns, schema=schema), prompts)


def form_warnings(chunk: Chunk | None, grammars: AnswerGrammars) -> list[Problem]:
    """What is rarely meant in the forms of the first rows of a chunk."""
    rows = chunk.rows()[:_ROWS] if chunk is not None else []
    return cell_warnings(grammars, [row.fields for row in rows])


def _first_scored(measure: JobMetric, rows: TrialRows, answers: list[Answer]) -> Answer | None:
    table, prompts = rows.table, rows.prompts
    chosen = np.ones(table.num_rows, np.bool_)
    if measure.where is not None:
        chosen = RowFilter(measure.where, table.schema, f"{measure.key}.where").mask(table)
    first = next((row for row in np.flatnonzero(chosen).tolist() if row in prompts), None)
    return None if first is None else replace(answers[first], prompt=prompts[first])


def _trial(measure: JobMetric, answer: Answer) -> CallProblem | None:
    """The problem of a function that scores none of the texts; None if it scores one."""
    assert isinstance(measure.metric, UserFunction)
    function = measure.metric.function
    problems: list[CallProblem] = []
    read: set[str] = set()

    @wraps(function)
    def watching(answer: Answer) -> object:
        return function(_watched(answer, read))

    tried = replace(measure.metric, function=watching)
    for text in dict.fromkeys((*answer.references[:1], *_TEXTS)):
        found = tried.call(replace(answer, response=text))
        if not isinstance(found, CallProblem):
            return None
        problems.append(found)
    first = problems[0]
    broken = all(one.broken for one in problems)
    return CallProblem(first.text, broken or not read & {"response", "text"})


def _watched(answer: Answer, read: set[str]) -> Answer:
    """The same answer, which adds the names of the attributes that are read."""

    class Watched(Answer):
        def __getattribute__(self, name: str) -> object:
            read.add(name)
            return super().__getattribute__(name)

    values = {one.name: getattr(answer, one.name) for one in fields(answer)}
    return Watched(**values)
