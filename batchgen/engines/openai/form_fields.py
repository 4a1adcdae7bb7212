"""How the form of an answer is requested of a server (`decoding.response_format`): each server has fields of its own."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from batchgen.decoding_settings import AnswerGrammar, GrammarKind
from batchgen.structured.compile_grammar import library_grammar

FormWay = str
"""A key of `_FIELDS`, as the dialect of a server records it."""


def form_fields(grammar: AnswerGrammar, way: FormWay) -> dict[str, Any]:
    """The fields of a request for an answer of this form."""
    return _FIELDS[way](grammar)


def _response_format(grammar: AnswerGrammar) -> dict[str, Any]:
    """OpenAI's own field."""
    if grammar.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    named = {"name": "answer", "schema": json.loads(grammar.text), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _structured_outputs(grammar: AnswerGrammar) -> dict[str, Any]:
    """The field of vLLM."""
    if grammar.kind == "json_object":
        return {"structured_outputs": {"json_object": True}}
    name = "json" if grammar.kind == "json_schema" else grammar.kind
    parsed = grammar.kind in ("json_schema", "choice")
    value = json.loads(grammar.text) if parsed else grammar.text
    return {"structured_outputs": {name: value}}


def _regex(grammar: AnswerGrammar) -> dict[str, Any]:
    """A field of SGLang."""
    if grammar.kind == "regex":
        return {"regex": grammar.text}
    labels = map(re.escape, json.loads(grammar.text))
    return {"regex": f"({'|'.join(labels)})"}


def _llguidance(grammar: AnswerGrammar) -> dict[str, Any]:
    """llama.cpp built with llguidance: exactly the grammar of the engine `transformers`."""
    return {"grammar": f"%llguidance {{}}\n{_lark(grammar)}"}


def _lark(grammar: AnswerGrammar) -> str:
    if grammar.kind == "grammar":
        return grammar.text
    (one,) = json.loads(library_grammar(grammar))["grammars"]
    schema = one.get("json_schema")
    return str(one["lark_grammar"]) if schema is None else f"start: %json {json.dumps(schema)}"


def _gbnf(grammar: AnswerGrammar) -> dict[str, Any]:
    """llama.cpp's own grammars."""
    texts = ("".join(f"\\U{ord(c):08X}" for c in label) for label in json.loads(grammar.text))
    return {"grammar": "root ::= " + " | ".join(f'"{text}"' for text in texts)}


def _json_schema(grammar: AnswerGrammar) -> dict[str, Any]:
    """llama.cpp's own field, on `/completions` too."""
    is_object = grammar.kind == "json_object"
    return {"json_schema": {"type": "object"} if is_object else json.loads(grammar.text)}


_FIELDS: Mapping[FormWay, Callable[[AnswerGrammar], dict[str, Any]]] = {
    "response_format": _response_format,
    "structured_outputs": _structured_outputs,
    "regex": _regex,
    "llguidance": _llguidance,
    "gbnf": _gbnf,
    "json_schema": _json_schema,
}

WAYS: Mapping[GrammarKind, tuple[FormWay, ...]] = {
    "json_schema": ("llguidance", "response_format", "structured_outputs", "json_schema"),
    "json_object": ("llguidance", "response_format", "structured_outputs", "json_schema"),
    "regex": ("structured_outputs", "regex", "llguidance"),
    "choice": ("structured_outputs", "regex", "llguidance", "gbnf"),
    "grammar": ("structured_outputs", "llguidance"),
}
"""In the order in which they are tried."""
