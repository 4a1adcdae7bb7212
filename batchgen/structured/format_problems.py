"""Checks `decoding.response_format` for `validate`: combinations, columns, and that the form can be compiled."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from batchgen.decoding_settings import AnswerGrammar
from batchgen.errors import DataError, JobKeyError, Problem
from batchgen.job.spec import Job
from batchgen.structured.answer_grammars import KEY, AnswerGrammars, job_grammar
from batchgen.structured.check_grammar import NO_TEXT, grammar_error
from batchgen.structured.compile_grammar import require_llguidance
from batchgen.structured.example_text import LONGEST, example_text
from batchgen.structured.schema_errors import (
    explain_schema_error,
    needs_look_around,
    schema_warnings,
)

_OTHER_FORMS = {
    "regex": "Correct the regular expression; the whole answer must match it.",
    "grammar": "See the syntax of Lark grammars in llguidance's documentation; the first rule is start.",
    "choice": "Write fewer or shorter texts.",
}
_WITHOUT_TEXT = {
    "regex": "Write a regular expression that a text matches.",
    "grammar": "Give each rule that start needs an alternative that ends.",
}
_LOOK_AROUND = (
    "Write it without look-around, back-references, ^ and $: the whole answer must match it."
)
_LOOK_AROUND_IN_GRAMMAR = "Write the regular expression without look-around and back-references."
_PLACE = r"^(?:at )?(?P<line>\d+)\((?P<column>\d+)\): "
"""How the library begins an error of a grammar in Lark's notation: with line and column, from 1."""
_QUOTED = r"(?s)\n   \d+ \| .*"
"""How it ends: with the lines around that place."""
_SATISFIABLE = "Change the schema so that a short value satisfies it."
_JSON = ("json_schema", "json_object")


def format_problems(job: Job, columns: Sequence[str]) -> list[Problem]:
    """Everything that is wrong with the form of the answers; `columns` are those of the input. Never raises."""
    spec = job.decoding.response_format
    if spec is None:
        return []
    problems = [*_combinations(job), *_column_problems(job, columns)]
    try:
        grammar = job_grammar(spec)
        require_llguidance()
    except JobKeyError as error:
        return [*problems, error.problem]
    except DataError as error:
        return [*problems, Problem(KEY, error.message, error.hint)]
    if grammar is not None and (reason := grammar_error(grammar)):
        problems.append(
            _compile_problem(grammar, reason, in_file=isinstance(spec.json_schema, str))
        )
    return problems


def format_warnings(job: Job) -> Iterator[Problem]:
    """What is allowed and rarely meant. Never raises if `format_problems` found none."""
    spec = job.decoding.response_format
    if spec is None:
        return
    if (job.decoding.repetition_penalty or 1) != 1:
        message = (
            "makes tokens less likely that answers of this form repeat, such as quotes in JSON"
        )
        yield Problem("decoding.repetition_penalty", message, "Remove it, or look at the answers.")
    grammar = job_grammar(spec)
    if grammar is None:
        return
    if not example_text(grammar).text:
        message = f"no answer that ends within {LONGEST:,} bytes was found; all may stop at max_new_tokens, unfinished"
        hint = _WITHOUT_TEXT.get(grammar.kind, _SATISFIABLE)
        yield Problem(f"{KEY}.{grammar.kind}", message, hint)
    if grammar.kind == "json_schema":
        for message, hint in schema_warnings(json.loads(grammar.text)):
            yield Problem(f"{KEY}.json_schema", message, hint)


def cell_warnings(grammars: AnswerGrammars, rows: Iterable[Mapping[str, object]]) -> list[Problem]:
    """The forms in cells of rows without an answer that ends: at most one warning. A cell that is not a form fails its row."""
    if not grammars.column:
        return []
    own = [grammars.row_grammar(row) for row in rows if row.get(grammars.column) is not None]
    forms = [one for one in own if isinstance(one, AnswerGrammar)]
    endless = sum(not example_text(one).text for one in forms)
    if not endless:
        return []
    message = (
        f"for {endless:,} of the first {len(forms):,} forms of column {grammars.column!r}, no answer that ends within "
        f"{LONGEST:,} bytes was found; such answers may stop at max_new_tokens, unfinished"
    )
    hint = _WITHOUT_TEXT.get(grammars.kind, _SATISFIABLE)
    return [Problem(f"{KEY}.columns.{grammars.kind}", message, hint)]


def _combinations(job: Job) -> Iterator[Problem]:
    decoding = job.decoding
    refused = {
        "min_new_tokens": "the form defines where an answer may end",
        "stop_strings": "the form defines where an answer ends",
        "no_repeat_ngram_size": "both together can leave no token",
        "num_beams": "beam search cannot enforce a form",
        "generation_kwargs": "plain generate cannot enforce a form",
    }
    for name, reason in refused.items():
        value = getattr(decoding, name)
        if value not in (None, 0, (), {}) and not (name == "num_beams" and value == 1):
            message = f"cannot be combined with response_format: {reason}"
            yield Problem(f"decoding.{name}", message, f"Remove {name} or response_format.")
        if name in decoding.columns:
            message = f"{name} cannot be combined with response_format: {reason}"
            yield Problem(f"decoding.columns.{name}", message, "Remove one of them.")
    spec, prefill = decoding.response_format, (job.prompt.prefill or "").lstrip()
    kinds = {spec.form, *spec.columns} if spec is not None else set()
    if prefill.startswith(("{", "[", '"')) and not kinds.isdisjoint(_JSON):
        message = "begins the JSON that response_format would begin again after it"
        yield Problem("prompt.prefill", message, "Remove the prefill.")


def _column_problems(job: Job, columns: Sequence[str]) -> Iterator[Problem]:
    spec = job.decoding.response_format
    for kind, column in spec.columns.items() if spec else ():
        if column not in columns:
            hint = f"Use one of the input's columns: {', '.join(columns)}."
            yield Problem(f"{KEY}.columns.{kind}", f"column {column!r} is not in the input", hint)


def _compile_problem(grammar: AnswerGrammar, error: str, *, in_file: bool) -> Problem:
    if grammar.kind in _JSON:
        path, message, hint = explain_schema_error(json.loads(grammar.text), error)
        if in_file and path:
            return Problem(f"{KEY}.json_schema", f"at #/{'/'.join(path)}: {message}", hint)
        return Problem(".".join([f"{KEY}.{grammar.kind}", *path]), message, hint)
    message = f"cannot be compiled: {_plain_reason(error)}"
    hint = _OTHER_FORMS[grammar.kind]
    if error == NO_TEXT:
        message, hint = error, _WITHOUT_TEXT.get(grammar.kind, hint)
    elif needs_look_around(error):
        hint = _LOOK_AROUND if grammar.kind == "regex" else _LOOK_AROUND_IN_GRAMMAR
    place = re.match(_PLACE, error)
    if grammar.kind != "grammar" or place is None:
        return Problem(f"{KEY}.{grammar.kind}", message, hint)
    line, column = int(place["line"]), int(place["column"])
    message += f" (line {line}, column {column} of the grammar)"
    return Problem(f"{KEY}.grammar", message, hint, value_line=line, value_column=column)


def _plain_reason(error: str) -> str:
    """The library's reason on one line, without the place and the lines of the grammar that it quotes."""
    found = re.search(r"regex parse error:.*?^error: ([^\n]+)", error, re.DOTALL | re.MULTILINE)
    return found[1] if found else " ".join(re.sub(_PLACE, "", re.sub(_QUOTED, "", error)).split())
