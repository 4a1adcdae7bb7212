"""Checks whether a grammar can be used, without a model."""

import json
from functools import lru_cache

from batchgen.decoding_settings import AnswerGrammar
from batchgen.structured.compile_grammar import library_grammar, require_llguidance
from batchgen.structured.example_text import LONGEST, admits_text

NO_TEXT = f"it admits no text of 1 to {LONGEST:,} bytes"
_LARGEST = 256 * 1024
_DEEPEST = 64


@lru_cache(4096)
def grammar_error(grammar: AnswerGrammar) -> str:
    """Why the grammar cannot be used: `NO_TEXT`, or in the words of the library why it cannot be compiled. Empty if it can."""
    return _size_error(grammar) or _compile_error(grammar) or _emptiness(grammar)


def _size_error(grammar: AnswerGrammar) -> str:
    try:
        size = len(grammar.text.encode())
    except UnicodeEncodeError:
        return "contains a lone surrogate"
    if size > _LARGEST:
        return f"has more than {_LARGEST // 1024} kB"
    if grammar.kind == "json_schema" and _is_deeper(json.loads(grammar.text), _DEEPEST):
        return f"is nested more than {_DEEPEST} levels deep"
    return ""


def _compile_error(grammar: AnswerGrammar) -> str:
    try:
        text = library_grammar(grammar)
    except ValueError as error:
        return str(error)
    failed, messages = require_llguidance().LLMatcher.validate_grammar_with_warnings(text, None)
    return str(messages[0]).strip() if failed else ""


def _emptiness(grammar: AnswerGrammar) -> str:
    return "" if admits_text(grammar) else NO_TEXT


def _is_deeper(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(one, levels - 1) for one in inner)
