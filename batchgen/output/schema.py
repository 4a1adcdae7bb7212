"""The columns of the output: names, Arrow types, and the conversion from responses to a table.

The schema is explicit: with inferred types, a part without failures would get a null-typed `error` column, which
neither pyarrow nor Polars could read together with the other parts.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batchgen.errors import Problem
from batchgen.job.spec import Input, Output
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
"""The columns that batchgen adds, in order, without `output.prefix`."""


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """The columns of the output: kept input columns, then answer columns."""

    kept: tuple[str, ...]
    prefix: str

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.kept, *(self.prefix + name for name in ANSWER_COLUMNS))

    def schema(self, input_schema: pa.Schema) -> pa.Schema:
        kept = [input_schema.field(name) for name in self.kept]
        added = [pa.field(self.prefix + n, t) for n, t in ANSWER_COLUMNS.items()]
        return pa.schema([*kept, *added])

    def table(
        self,
        rows: pa.Table,
        responses: Sequence[Response],
        *,
        first: int,
        run_id: str,
        redacted: Mapping[str, int],
    ) -> pa.Table:
        """Join the part's input rows and the answers, one per (row, sample) in output order.

        `first` is the index of the part's first row, `run_id` that of responses without their own. `redacted` counts items
        in the input rows by kind; those in the responses are added.
        """
        positions = pa.array([r.index - first for r in responses], pa.int64())
        kept = rows.select(list(self.kept)).take(positions)
        answers = _answers(responses, run_id)
        columns = [*kept.columns, *(answers[name] for name in ANSWER_COLUMNS)]
        counts = sum((Counter(r.redacted) for r in responses), Counter(redacted))
        schema = self.schema(rows.schema).with_metadata({REDACTED_KEY: json.dumps(counts)})
        return pa.Table.from_arrays(columns, schema=schema)

    def responses(self, table: pa.Table, first: int, samples: int) -> Iterator[Response]:
        """The answers in a table of whole rows that `table` made. `first` is the index of its first row."""
        names = list(ANSWER_COLUMNS)
        columns = table.select([self.prefix + name for name in names]).rename_columns(names)
        for position, values in enumerate(columns.to_pylist()):
            yield _response(first + position // samples, values)


def _response(index: int, values: dict[str, Any]) -> Response:
    code, message = values.pop("error_code"), values.pop("error")
    messages = tuple(Message(m["role"], m["content"]) for m in values.pop("messages") or ())
    failure = Failure(code, message, values["finish_reason"]) if code is not None else None
    return Response(index=index, messages=messages, failure=failure, **values)


def _answers(responses: Sequence[Response], run_id: str) -> dict[str, pa.Array]:
    derived: dict[str, list[object]] = {
        "messages": [
            [{"role": m.role, "content": m.content} for m in r.messages] or None for r in responses
        ],
        "error_code": [r.failure.code if r.failure else None for r in responses],
        "error": [r.failure.message if r.failure else None for r in responses],
        "run_id": [r.run_id or run_id for r in responses],
    }
    return {
        name: pa.array(derived.get(name) or [getattr(r, name) for r in responses], kind)
        for name, kind in ANSWER_COLUMNS.items()
    }


def output_layout(
    columns: Sequence[str], section: Input, output: Output, id_column: str | None
) -> OutputLayout:
    """Decide the output's columns; `column_conflicts` must have found none."""
    kept, _ = _kept_and_clashing(columns, section, output, id_column)
    return OutputLayout(tuple(kept), output.prefix)


def column_conflicts(
    columns: Sequence[str], section: Input, output: Output, id_column: str | None
) -> list[Problem]:
    """Kept columns that do not exist, or whose names answer columns have."""
    kept, clashing = _kept_and_clashing(columns, section, output, id_column)
    hint = f"Use columns of the input: {', '.join(columns)}."
    problems = [
        Problem("output.keep_columns", f"column {name!r} is not in the input", hint)
        for name in kept
        if name not in columns
    ]
    if clashing:
        problem = f"the input columns {', '.join(clashing)} have names of answer columns"
        hint = "Set output.prefix, such as `prefix: bg_`, or omit them from output.keep_columns."
        problems.append(Problem("output.prefix", problem, hint))
    return problems


def _kept_and_clashing(
    columns: Sequence[str], section: Input, output: Output, id_column: str | None
) -> tuple[list[str], list[str]]:
    """The kept columns, and those of them that have the name of an answer column.

    A column whose content an answer column repeats is replaced by it, and not lost: it is not kept.
    """
    named = {"all": columns, "none": ()}
    wanted = output.keep_columns
    names = named[wanted] if isinstance(wanted, str) else wanted
    added = {output.prefix + name for name in ANSWER_COLUMNS}
    repeated = {id_column, section.columns.prompt, section.columns.messages}
    kept = [name for name in names if name not in added or name not in repeated]
    return kept, [name for name in kept if name in added]
