"""The grammar of each row: the job's own, or that of a cell."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from batchgen.decoding_settings import AnswerGrammar, GrammarKind
from batchgen.errors import JobKeyError
from batchgen.job.decoding import Decoding
from batchgen.job.response_format import ResponseFormat
from batchgen.records import Failure
from batchgen.structured.check_grammar import NO_TEXT, grammar_error

KEY = "decoding.response_format"
FAST_FORWARD = False
"""Whether tokens that the grammar forces are appended without a step, in the library's tokenization instead of the model's.

Absent in every tier. Measured with 64 invented letters and the demo model, best of two: 19.3 s instead of 20.8 s with the schema
of jobs/customer_service and at most 160 new tokens (1,080 of 4,999 tokens forced), 7.2 s instead of 8.6 s for an object of
four fields (966 of 2,477). The number of tokens was the same.
"""

LABELS = "by probability of their deciding tokens"
"""How a label of `choice` is chosen, where there are few: see `label_choice.py`."""

BEFORE_MARK = "any token but an end token"
"""What may be chosen before the mark of `after`."""


def job_grammar(spec: ResponseFormat) -> AnswerGrammar | None:
    """The grammar of rows without one of their own; None if there is none. It is not compiled yet.

    Raises:
        JobKeyError: the file of a schema cannot be read, or is not a JSON object.
    """
    kind, after = spec.form, spec.after or ""
    if kind is None:
        return None
    if kind == "json_schema":
        schema = spec.json_schema
        read = _read_schema(Path(schema)) if isinstance(schema, str) else schema
        return AnswerGrammar(kind, _compact(read), after)
    if kind == "choice":
        return AnswerGrammar(kind, _compact(list(spec.choice)), after)
    text = {"regex": spec.regex, "grammar": spec.grammar}.get(kind) or ""
    return AnswerGrammar(kind, text, after)


def format_settings(spec: Decoding, grammar: AnswerGrammar | None) -> dict[str, object]:
    """What decides the form of answers, for the generation fingerprint: a schema by its hash. Empty without a form."""
    if (form := spec.response_format) is None:
        return {}
    recorded = {
        "kind": grammar.kind if grammar else None,
        "sha256": hashlib.sha256(grammar.text.encode()).hexdigest() if grammar else None,
        "columns": dict(form.columns),
        "after": form.after,
        "fast_forward": FAST_FORWARD,
        "labels": LABELS,
    }
    if form.after is not None:
        recorded["before_mark"] = BEFORE_MARK
    return {"response_format": recorded}


@dataclass(frozen=True, slots=True)
class AnswerGrammars:
    """The grammars of a run.

    Attributes:
        default: of rows without one of their own.
        kind, column: of the cells that define a row's grammar; empty without such a column.
    """

    default: AnswerGrammar | None
    kind: str = ""
    column: str = ""
    after: str = ""

    @classmethod
    def of(cls, spec: ResponseFormat | None) -> "AnswerGrammars":
        """Raises JobKeyError as `job_grammar`."""
        if spec is None:
            return cls(None)
        kind, column = next(iter(spec.columns.items()), ("", ""))
        return cls(job_grammar(spec), kind, column, spec.after or "")

    def row_grammar(self, fields: Mapping[str, object]) -> AnswerGrammar | Failure | None:
        """The grammar of a row. A failure names the column and what was expected, without the row's value."""
        cell = fields.get(self.column) if self.column else None
        if cell is None:
            return self.default
        kind = cast(GrammarKind, self.kind)
        text = _cell_text(kind, cell)
        if text is None:
            return self._failure(f"expected {_EXPECTED[kind]}")
        grammar = AnswerGrammar(kind, text, self.after)
        if error := grammar_error(grammar):
            if error == NO_TEXT:
                return self._failure(error)
            # The rest of the library's reason may quote the cell.
            return self._failure(f"it cannot be compiled{_safe_reason(error)}")
        return grammar

    def _failure(self, reason: str) -> Failure:
        return Failure(
            "invalid_override", f"column {self.column!r}: invalid {KEY}.{self.kind}; {reason}"
        )


NO_GRAMMARS = AnswerGrammars(None)

_EXPECTED: Mapping[GrammarKind, str] = {
    "json_schema": "a text with a JSON Schema that is an object and has no key twice, or null for the job's own form",
    "choice": "a list of distinct texts, or null for the job's own form",
    "regex": "a regular expression, or null for the job's own form",
    "grammar": "a Lark grammar, or null for the job's own form",
}


def _cell_text(kind: GrammarKind, cell: object) -> str | None:
    """The text of a grammar; None if the cell is none."""
    if kind in ("regex", "grammar"):
        return cell if isinstance(cell, str) and cell else None
    value = _parsed(cell) if isinstance(cell, str) else cell
    if kind == "json_schema":
        return _compact(value) if isinstance(cell, str) and isinstance(value, dict) else None
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    labels = [one for one in value if isinstance(one, str) and one]
    whole = labels and len(labels) == len(value) == len(set(labels))
    return _compact(labels) if whole else None


class RepeatedKeyError(ValueError):
    """An object in a schema has a key twice."""


def _without_repetition(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in pairs:
        if name in values:
            raise RepeatedKeyError(json.dumps(name, ensure_ascii=False))
        values[name] = value
    return values


def _parsed(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        return None


def _safe_reason(error: str) -> str:
    """The part of the library's reason that quotes nothing: names of keywords."""
    return f": {error}" if error.startswith("Unimplemented keys") else ""


def _read_schema(file: Path) -> object:
    key = f"{KEY}.json_schema"
    try:
        content = file.read_bytes()
    except OSError as error:
        hint = "Give the path of a JSON Schema file, or write the schema here."
        raise JobKeyError(key, f"{file}: cannot be read: {error.strerror}", hint=hint) from error
    try:
        schema = json.loads(content, object_pairs_hook=_without_repetition)
    except RepeatedKeyError as error:
        hint = "Keep one of them."
        raise JobKeyError(key, f"{file}: an object has the key {error} twice", hint=hint) from error
    except json.JSONDecodeError as error:
        message = f"{file}:{error.lineno}:{error.colno}: is not JSON: {error.msg}"
        raise JobKeyError(key, message, hint="Correct the file.") from error
    except (ValueError, RecursionError) as error:
        raise JobKeyError(
            key, f"{file}: is not JSON", hint="Give the path of a JSON Schema file."
        ) from error
    if not isinstance(schema, dict):
        raise JobKeyError(
            key, f"{file}: expected a JSON object", hint="Write the schema as an object."
        )
    return schema


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
