"""The answer columns that a job adds: `logprobs`, `choice_probabilities`, and `parsed` by the schema of its answers."""

import json
from collections.abc import Collection

from batchgen.engines.engine_registry import ENGINES
from batchgen.errors import DataError, JobKeyError, Problem
from batchgen.job.spec import Job
from batchgen.job.turn_columns import TURN
from batchgen.output.choice_column import CHOICE_PROBABILITIES, CHOICES
from batchgen.output.logprob_column import LOGPROBS
from batchgen.output.parsed_column import AnswerParser, answer_shape
from batchgen.output.schema import AddedColumns
from batchgen.structured.answer_grammars import job_grammar
from batchgen.structured.check_grammar import grammar_error
from batchgen.structured.label_choice import MOST_LABELS

_KEY = "output.parse"


def added_columns(job: Job) -> AddedColumns:
    """The answer columns that this job adds; without `parsed` where `parse_problems` finds a problem."""
    recorded = {} if isinstance(job.decoding.logprobs, bool) else {"logprobs": LOGPROBS}
    if writes_choices(job):
        recorded[CHOICE_PROBABILITIES] = CHOICES
    has_turns = job.prompt.turns or job.input.columns.turns or job.prompt.replay
    return AddedColumns(recorded, _answer_parser(job), (TURN,) if has_turns else ())


def writes_choices(job: Job) -> bool:
    """Whether the job has the column `choice_probabilities`."""
    if job.output.choice_probabilities != "auto":
        return job.output.choice_probabilities
    form, decoding, engine = (
        job.decoding.response_format,
        job.decoding,
        ENGINES.get(job.model.engine),
    )
    if form is None or form.after is not None or engine is None or not engine.info.likelihoods:
        return False
    if decoding.repetition_penalty not in (None, 1) or not isinstance(decoding.logprobs, bool):
        return False
    return 0 < len(form.choice) <= MOST_LABELS or "choice" in form.columns


def parse_problems(job: Job) -> list[Problem]:
    """Why `output.parse` cannot make a column. Never raises; that a schema cannot be read is reported elsewhere."""
    form = job.decoding.response_format
    if not job.output.parse:
        return []
    if form is None or form.json_schema is None:
        hint = "Set decoding.response_format.json_schema, or remove output.parse."
        return [Problem(_KEY, "has no effect without a JSON Schema of all answers", hint)]
    if form.columns:
        hint = "Remove output.parse, or decoding.response_format.columns."
        return [Problem(_KEY, "needs one schema for all rows; some rows have their own", hint)]
    if _schema(job) is not None and _answer_parser(job) is None:
        message = (
            "the schema leaves the type of the answers open, so that there is nothing to parse"
        )
        hint = "Name properties in decoding.response_format.json_schema, or remove output.parse."
        return [Problem(_KEY, message, hint)]
    return []


def choice_problems(job: Job, columns: Collection[str]) -> list[Problem]:
    """Why `output.choice_probabilities` cannot make a column; `columns` are those of the output."""
    form, key = job.decoding.response_format, "output.choice_probabilities"
    if job.output.choice_probabilities is not True:
        return []
    if form is None or not (form.choice or "choice" in form.columns):
        hint = "Set decoding.response_format.choice, or remove it."
        return [Problem(key, "has no effect without labels", hint)]
    problems = []
    if form.after is not None:
        message = "needs labels right after the prompt; with response_format.after, other text precedes them"
        problems.append(Problem(key, message, "Remove one of the two."))
    if not job.output.store_prompt:
        message = "needs the row's prompt, but the column messages is not written"
        problems.append(Problem(key, message, "Set output.store_prompt: true."))
    column = form.columns.get("choice")
    if column is not None and column not in columns:
        message = f"needs the labels in the column {column!r}, which is not kept"
        problems.append(Problem(key, message, f"Add {column!r} to output.keep_columns."))
    return problems


def _answer_parser(job: Job) -> AnswerParser | None:
    form, schema = job.decoding.response_format, _schema(job)
    if not job.output.parse or form is None or form.columns or schema is None:
        return None
    shape = answer_shape(schema)
    return None if shape is None else AnswerParser(shape, form.after or "")


def _schema(job: Job) -> object:
    """The JSON Schema of the answers; None if the job has none that can be read and enforced."""
    form = job.decoding.response_format
    if form is None or form.json_schema is None:
        return None
    try:
        grammar = job_grammar(form)
        if grammar is None or grammar_error(grammar):
            return None
    except (JobKeyError, DataError):
        return None
    return json.loads(grammar.text)
