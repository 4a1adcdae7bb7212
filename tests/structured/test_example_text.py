"""A text of a form: every one is accepted, and of a form without texts none is found."""

import pytest

from batchgen.decoding_settings import AnswerGrammar, GrammarKind
from batchgen.structured.check_grammar import NO_TEXT, grammar_error
from batchgen.structured.example_text import LONGEST, example_text
from tests.structured.byte_matchers import Acceptor

TICKET = """{"type":"object","properties":{"topic":{"enum":["billing","delivery"]},"note":{"type":"string","minLength":5},
"count":{"type":"integer","minimum":100},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},
"required":["topic","note","count","next"],"additionalProperties":false}"""


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "a*"),
        ("regex", "a*b"),
        ("regex", "(a|b)*abb"),
        ("regex", "[a-z]{500}x"),
        ("regex", "é?中+"),
        ("choice", '["中文","b"]'),
        ("json_object", ""),
        ("json_schema", "{}"),
        ("json_schema", TICKET),
        ("json_schema", '{"type":"array","minItems":3,"items":{"type":"string","format":"date"}}'),
        ("grammar", 'start: a | b\na: a\nb: "c"'),
        ("grammar", 'start: "a" start "b" | "c"'),
        ("grammar", 'start: "a" start start | "b"'),
        ("grammar", 'start: "a" /[^\\s\\S]/ | "b"'),
        ("grammar", 'start: "(" start* ")"'),
    ],
)
def test_the_text_is_one_of_the_form(kind: GrammarKind, text: str) -> None:
    grammar = AnswerGrammar(kind, text)
    assert grammar_error(grammar) == ""
    found = example_text(grammar).text
    assert 0 < len(found) < 600
    assert Acceptor(grammar).accepts(found)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("regex", "[^\\s\\S]"),
        ("regex", "a[^\\s\\S]"),
        ("regex", "a{0}"),
        ("regex", f"(ab){{{LONGEST}}}"),
        ("grammar", "start: start"),
        ("grammar", "start:"),
        ("grammar", 'start: "a" start'),
        ("grammar", 'start: "a" /[^\\s\\S]/'),
        ("json_schema", '{"$ref":"#"}'),
        ("json_schema", '{"properties":{"a":{"$ref":"#"}},"required":["a"],"type":"object"}'),
    ],
)
def test_a_form_without_a_text_is_found_out(kind: GrammarKind, text: str) -> None:
    grammar = AnswerGrammar(kind, text)
    assert example_text(grammar).complete
    assert grammar_error(grammar) == NO_TEXT


def test_a_form_whose_texts_are_long_is_not_rejected() -> None:
    long = AnswerGrammar(
        "json_schema", '{"type":"array","items":{"type":"integer"},"minItems":3000}'
    )
    assert grammar_error(long) == ""
    assert not example_text(long).complete
