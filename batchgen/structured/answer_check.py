"""Whether a finished answer has the form that was requested, for engines that leave the form to a server."""

import json
from functools import lru_cache
from typing import Any

from batchgen.decoding_settings import AnswerGrammar
from batchgen.metrics.json_output import NotJSONError, SchemaViolation, parse_strictly, read_schema
from batchgen.structured.compile_grammar import library_grammar, require_llguidance


def has_form(grammar: AnswerGrammar, text: str) -> bool:
    """Whether the whole text has the form. White space and the order of properties in JSON are free."""
    if grammar.kind == "choice":
        labels: list[str] = json.loads(grammar.text)
        return text in labels
    if grammar.kind in ("json_schema", "json_object"):
        return _is_valid_json(grammar, text)
    content = text.encode("utf-8", "replace")
    matcher = _prototype(grammar).deep_copy()
    complete: bool = matcher.try_consume_tokens(list(content)) == len(content)
    return complete and bool(matcher.is_accepting())


def _is_valid_json(grammar: AnswerGrammar, text: str) -> bool:
    try:
        value = parse_strictly(text)
    except NotJSONError:
        return False
    if grammar.kind == "json_object":
        return isinstance(value, dict)
    return _violation(grammar.text)(value) is None


@lru_cache(4096)
def _violation(schema: str) -> SchemaViolation:
    return read_schema(json.loads(schema), "decoding.response_format.json_schema")


@lru_cache(4096)
def _prototype(grammar: AnswerGrammar) -> Any:  # noqa: ANN401 - llguidance's matcher
    """A matcher of bytes at the start of an answer."""
    library = require_llguidance()
    return library.LLMatcher(library.LLTokenizer("byte"), library_grammar(grammar), log_level=0)
