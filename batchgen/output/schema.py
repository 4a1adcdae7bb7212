"""The columns of the output: names, Arrow types, and the conversion from responses to a table.

The schema is explicit: with inferred types, a part without failures would get a null-typed `error` column, which
neither pyarrow nor Polars could read together with the other parts.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from batchgen.arrow.nested_column import column_paths
from batchgen.errors import Problem
from batchgen.job.spec import Input, Output
from batchgen.output.choice_column import CHOICE_PROBABILITIES, choice_column, read_choices
from batchgen.output.logprob_column import logprob_column, read_logprobs
from batchgen.output.parsed_column import PARSED, AnswerParser
from batchgen.records import Failure, Message, Response
from batchgen.state.parts import REDACTED_KEY

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

ANSWER_COLUMNS: Mapping[str, pa.DataType] = {
    "id": pa.string(),
    "sample": pa.int32(),
    "messages": MESSAGES,
    "response": pa.string(),
    "reasoning": pa.string(),
    "finish_reason": pa.string(),
    "error_code": pa.string(),
    "error": pa.string(),
    "input_tokens": pa.int32(),
    "output_tokens": pa.int32(),
    "seed": pa.int64(),
    "logprob_mean": pa.float32(),
    "prompt_hash": pa.string(),
    "row_fingerprint": pa.string(),
    "run_id": pa.string(),
    "created_at": pa.timestamp("us", tz="UTC"),
}
"""The columns that batchgen always adds, in order, without `output.prefix`."""

_BEFORE_OPTIONAL = "logprob_mean"
_AFTER_OPTIONAL = "prompt_hash"
"""Columns that only some jobs add are between these two."""


@dataclass(frozen=True, slots=True)
class UnchangedRows:
    """Answers of an earlier run to rows of a part.

    Attributes:
        positions: int64 [answers], the row of the part that each answer belongs to, from 0.
        answers: the answer columns, without prefix.
    """

    positions: npt.NDArray[np.int64]
    answers: pa.Table


@dataclass(frozen=True, slots=True)
class AddedColumns:
    """The answer columns that a job adds and others do not.

    Attributes:
        recorded: types of those that the engine's results have, by name without prefix.
        parser: what makes the column `parsed`; None without that column.
        of_turns: columns of the turns of conversations, which are kept whatever `output.keep_columns` is.
    """

    recorded: Mapping[str, pa.DataType] = field(default_factory=dict)
    parser: AnswerParser | None = None
    of_turns: tuple[str, ...] = ()

    @property
    def answer_columns(self) -> dict[str, pa.DataType]:
        """All answer columns of the job: names without prefix, and types."""
        parsed = {} if self.parser is None else {PARSED: self.parser.shape.type}
        return with_optional({**self.recorded, **parsed})


NONE_ADDED = AddedColumns()


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """The columns of the output: kept input columns, then answer columns."""

    kept: tuple[str, ...]
    prefix: str
    added: AddedColumns = NONE_ADDED

    @classmethod
    def written(cls, schema: pa.Schema, prefix: str) -> Self:
        """The layout of a table that batchgen wrote with this prefix, without kept columns and `parsed`."""
        first = schema.get_field_index(prefix + _BEFORE_OPTIONAL) + 1
        last = schema.get_field_index(prefix + _AFTER_OPTIONAL)
        fields = (schema.field(position) for position in range(first, last))
        recorded = {one.name.removeprefix(prefix): one.type for one in fields}
        recorded.pop(PARSED, None)
        return cls((), prefix, AddedColumns(recorded))

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.kept, *(self.prefix + name for name in self.added.answer_columns))

    @property
    def paths(self) -> tuple[str, ...]:
        """The names, and the paths of the fields in the column `parsed`."""
        parser = self.added.parser
        parsed = [] if parser is None else [(self.prefix + PARSED, parser.shape.type)]
        return (*self.names, *column_paths(pa.schema(parsed))[1:])

    def schema(self, input_schema: pa.Schema) -> pa.Schema:
        kept = [input_schema.field(name) for name in self.kept]
        added = [pa.field(self.prefix + n, t) for n, t in self.added.answer_columns.items()]
        return pa.schema([*kept, *added])

    def table(
        self,
        rows: pa.Table,
        responses: Sequence[Response],
        *,
        first: int,
        run_id: str,
        redacted: Mapping[str, int],
        unchanged: UnchangedRows | None = None,
    ) -> pa.Table:
        """Join the part's input rows and the answers, one per (row, sample) in output order.

        `first` is the index of the part's first row, `run_id` that of responses without their own. `redacted` counts items
        in the input rows by kind; those in the responses are added. The responses are in output order; the answers of
        `unchanged` are inserted.
        """
        positions = np.array([r.index - first for r in responses], np.int64)
        answers = pa.table(answer_columns(responses, run_id, self.added.recorded))
        if unchanged is not None:
            answers = pa.concat_tables([answers, _with_columns(unchanged.answers, answers.schema)])
            positions = np.concatenate([positions, unchanged.positions])
            order = np.lexsort((answers.column("sample").to_numpy(), positions))
            if (np.diff(order) < 0).any():
                answers, positions = answers.take(order), positions[order]
        kept = rows.select(list(self.kept)).take(pa.array(positions))
        counts = sum((Counter(r.redacted) for r in responses), Counter(redacted))
        schema = self.schema(rows.schema).with_metadata({REDACTED_KEY: json.dumps(counts)})
        return pa.Table.from_arrays(self.columns(kept, answers), schema=schema)

    def columns(self, kept: pa.Table, answers: pa.Table) -> list[pa.ChunkedArray]:
        """All columns in order, from the kept ones and the answers without the column `parsed`."""
        recorded = with_optional(self.added.recorded)
        answers = _with_columns(answers, pa.schema(list(recorded.items())))
        if (parser := self.added.parser) is not None:
            texts, reasons = answers.column("response"), answers.column("finish_reason")
            parsed = parser.column(texts.to_pylist(), reasons.to_pylist())
            answers = answers.append_column(PARSED, parsed)
        return [*kept.columns, *answers.select(list(self.added.answer_columns)).columns]

    def answers(self, table: pa.Table) -> pa.Table:
        """The answer columns of a table, without prefix."""
        names = [name for name in self.added.answer_columns if name != PARSED]
        return table.select([self.prefix + name for name in names]).rename_columns(names)

    def responses(self, table: pa.Table, first: int, samples: int) -> Iterator[Response]:
        """The answers in a table of whole rows that `table` made. `first` is the index of its first row."""
        for position, values in enumerate(self.answers(table).to_pylist()):
            yield _response(first + position // samples, values)


def _with_columns(answers: pa.Table, schema: pa.Schema) -> pa.Table:
    """The answers with the columns of a schema; those that they lack are null."""
    for name in schema.names:
        if name not in answers.column_names:
            nulls = pa.nulls(answers.num_rows, schema.field(name).type)
            answers = answers.append_column(schema.field(name), nulls)
    return answers.select(schema.names).cast(schema)


def _response(index: int, values: dict[str, Any]) -> Response:
    code, message = values.pop("error_code"), values.pop("error")
    messages = tuple(Message(m["role"], m["content"]) for m in values.pop("messages") or ())
    failure = Failure(code, message, values["finish_reason"]) if code is not None else None
    recorded = read_logprobs(values.pop("logprobs", None))
    return Response(
        index=index,
        messages=messages,
        failure=failure,
        token_logprobs=recorded,
        label_logprobs=read_choices(values.pop(CHOICE_PROBABILITIES, None)),
        **values,
    )


def with_optional(optional: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """All answer columns, in order, of a job that adds these optional ones."""
    columns = dict[str, pa.DataType]()
    for name, type_ in ANSWER_COLUMNS.items():
        columns |= optional if name == _AFTER_OPTIONAL else {}
        columns[name] = type_
    return columns


def answer_columns(
    responses: Sequence[Response], run_id: str, optional: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    """The answer columns of responses, without prefix; `run_id` is that of responses without their own."""
    derived: dict[str, list[object]] = {
        "messages": [
            [{"role": m.role, "content": m.content} for m in r.messages] or None for r in responses
        ],
        "error_code": [r.failure.code if r.failure else None for r in responses],
        "error": [r.failure.message if r.failure else None for r in responses],
        "run_id": [r.run_id or run_id for r in responses],
    }
    columns = with_optional(optional)
    made = {
        name: pa.array(derived.get(name) or [getattr(r, name) for r in responses], kind)
        for name, kind in columns.items()
        if name not in optional
    }
    if "logprobs" in optional:
        made["logprobs"] = logprob_column([r.token_logprobs for r in responses])
    if CHOICE_PROBABILITIES in optional:
        made[CHOICE_PROBABILITIES] = choice_column([r.label_logprobs for r in responses])
    return {name: made[name] for name in columns}


def output_layout(
    columns: Sequence[str],
    section: Input,
    output: Output,
    id_column: str | None,
    *,
    added: AddedColumns = NONE_ADDED,
) -> OutputLayout:
    """Decide the output's columns; `column_conflicts` must have found none."""
    kept, _ = _kept_and_clashing(columns, section, output, id_column, added=added)
    return OutputLayout(tuple(kept), output.prefix, added)


def column_conflicts(
    columns: Sequence[str],
    section: Input,
    output: Output,
    id_column: str | None,
    *,
    added: AddedColumns = NONE_ADDED,
) -> list[Problem]:
    """Kept columns that do not exist, whose names answer columns have, or that differ by case only.

    Upper and lower case count as equal: in DuckDB, Spark and most databases they are one name.
    """
    kept, clashing = _kept_and_clashing(columns, section, output, id_column, added=added)
    hint = f"Use columns of the input: {', '.join(columns)}."
    problems = [
        Problem("output.keep_columns", f"column {name!r} is not in the input", hint)
        for name in kept
        if name not in columns
    ]
    if clashing:
        problem = f"the input columns {', '.join(clashing)} have names of answer columns"
        if not {output.prefix + name for name in added.answer_columns} >= set(clashing):
            problem += ", apart from upper and lower case"
        hint = "Set output.prefix, such as `prefix: bg_`, or omit them from output.keep_columns."
        id_like = next((name for name in clashing if folded_name(name) == "id"), None)
        if id_column is None and id_like is not None:
            hint += f" If {id_like} is the id of each row, set input.columns.id: {id_like}."
        problems.append(Problem("output.prefix", problem, hint))
    by_name: dict[str, list[str]] = {}
    for name in kept:
        by_name.setdefault(folded_name(name), []).append(name)
    for twins in by_name.values():
        if len(twins) > 1:
            problem = f"the input columns {' and '.join(twins)} differ by upper and lower case only"
            hint = "Keep only one of them in output.keep_columns, or rename it in the input."
            problems.append(Problem("output.keep_columns", problem, hint))
    return problems


def folded_name(name: str) -> str:
    """A column's name as readers that ignore case compare it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _kept_and_clashing(
    columns: Sequence[str],
    section: Input,
    output: Output,
    id_column: str | None,
    *,
    added: AddedColumns = NONE_ADDED,
) -> tuple[list[str], list[str]]:
    """The kept columns, and those of them that have the name of an answer column.

    A column whose content an answer column repeats is replaced by it, and not lost: it is not kept.
    """
    named = {"all": columns, "none": ()}
    wanted = output.keep_columns
    names = tuple(named[wanted] if isinstance(wanted, str) else wanted)
    names += tuple(name for name in added.of_turns if name not in names)
    taken = {folded_name(output.prefix + name) for name in added.answer_columns}
    repeated = {id_column, section.columns.prompt, section.columns.messages}
    kept = [name for name in names if folded_name(name) not in taken or name not in repeated]
    return kept, [name for name in kept if folded_name(name) in taken]
