"""Compiles grammars with llguidance, which is imported when a grammar is first used.

A grammar is compiled twice: to check it (`validate`, the cells of a column), see `check_grammar.py`, and with the model's
tokenizer to follow rows.
"""

import importlib
import json
from typing import Any

from batchgen.decoding_settings import AnswerGrammar
from batchgen.errors import DataError

COMPACT = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}
"""With optional white space, models write it until max_tokens. What cannot be enforced is an error."""


def require_llguidance() -> Any:  # noqa: ANN401 - a module, imported only when it is needed
    """The module llguidance.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("llguidance")
    except ModuleNotFoundError as error:
        raise DataError(
            "decoding.response_format needs the package llguidance, which is not installed",
            hint="Run in batchgen's folder: pip install -e '.[structured]'.",
        ) from error


def library_grammar(grammar: AnswerGrammar) -> str:
    """The grammar as llguidance reads it.

    Raises:
        ValueError: it is not one; the message may quote the grammar.
    """
    matcher = require_llguidance().LLMatcher
    if grammar.kind == "json_object":
        return str(matcher.grammar_from_json_schema('{"type": "object"}', overrides=COMPACT))
    if grammar.kind == "json_schema":
        return str(matcher.grammar_from_json_schema(grammar.text, overrides=COMPACT))
    if grammar.kind == "choice":
        return str(matcher.grammar_from_regex(alternatives(json.loads(grammar.text))))
    if grammar.kind == "regex":
        return str(matcher.grammar_from_regex(grammar.text))
    return str(matcher.grammar_from_lark(grammar.text))


def alternatives(labels: list[str]) -> str:
    """A regular expression for the texts; characters with a meaning are written by their numbers."""
    escaped = ("".join(map(_literal, label)) for label in labels)
    return f"({'|'.join(escaped)})"


def _literal(character: str) -> str:
    plain = character.isascii() and character.isalnum()
    return character if plain else f"\\x{{{ord(character):X}}}"
