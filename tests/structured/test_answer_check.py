"""Whether an answer has its form."""

import pytest

from batchgen.records import AnswerGrammar
from batchgen.structured.answer_check import has_form

SCHEMA = '{"type":"object","properties":{"a":{"type":"integer"},"b":{}},"required":["a","b"]}'
FORMS = {
    "schema": AnswerGrammar("json_schema", SCHEMA),
    "object": AnswerGrammar("json_object", ""),
    "choice": AnswerGrammar("choice", '["是","b"]'),
    "regex": AnswerGrammar("regex", "[0-9]+é?"),
    "grammar": AnswerGrammar("grammar", 'start: "(" start? ")"'),
}
VALID = {
    "schema": ['{"a":1,"b":2}', '\n{ "b": null,\t"a": 10 }'],
    "object": ["{}", '{"x": {"y": []}}'],
    "choice": ["是", "b"],
    "regex": ["0", "12é"],
    "grammar": ["()", "((()))"],
}
INVALID = {
    "schema": ["", "{}", '{"a":"1","b":2}', '{"a":1,"a":1,"b":2}', '{"a":1,"b":NaN}', "[1]"],
    "object": ["[]", "{", "{} x", "null"],
    "choice": ["", " b", "B", "bb"],
    "regex": ["", "a", "1 ", "1éé"],
    "grammar": ["", "(", "())", "(x)"],
}


@pytest.mark.parametrize("kind", FORMS)
def test_valid_and_invalid_answers(kind: str) -> None:
    form = FORMS[kind]
    assert [text for text in VALID[kind] if not has_form(form, text)] == []
    assert [text for text in INVALID[kind] if has_form(form, text)] == []
