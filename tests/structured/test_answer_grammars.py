"""The grammar of each row: the job's own or that of a cell, and what is recorded of it."""

import json
from typing import Any

import pytest

from batchgen.job.response_format import ResponseFormat
from batchgen.records import AnswerGrammar, Failure
from batchgen.structured.answer_grammars import AnswerGrammars


def grammars(**keys: Any) -> AnswerGrammars:
    return AnswerGrammars.of(ResponseFormat.model_validate(keys))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        pytest.param(
            {"json_schema": {"type": "object", "const": None}},
            AnswerGrammar("json_schema", '{"type":"object","const":null}'),
            id="schema",
        ),
        pytest.param({"json_schema": {}}, AnswerGrammar("json_schema", "{}"), id="any JSON"),
        pytest.param({"json_object": True}, AnswerGrammar("json_object", ""), id="object"),
        pytest.param({"regex": "a+"}, AnswerGrammar("regex", "a+"), id="regex"),
        pytest.param({"choice": ["是", "b"]}, AnswerGrammar("choice", '["是","b"]'), id="choice"),
        pytest.param(
            {"grammar": 'start: "a"', "after": "</think>"},
            AnswerGrammar("grammar", 'start: "a"', "</think>"),
            id="grammar after a mark",
        ),
    ],
)
def test_the_form_of_a_job(keys: dict[str, Any], expected: AnswerGrammar) -> None:
    assert grammars(**keys).row_grammar({}) == expected


@pytest.mark.parametrize(
    ("kind", "cell", "expected"),
    [
        pytest.param("choice", ["a", "b"], '["a","b"]', id="list"),
        pytest.param("choice", '["a", "b"]', '["a","b"]', id="json list"),
        pytest.param("choice", ["a", "a"], None, id="label twice"),
        pytest.param("choice", ["a", None], None, id="label is null"),
        pytest.param("choice", [], None, id="no label"),
        pytest.param("choice", "a, b", None, id="not json"),
        pytest.param("json_schema", '{"type": "integer"}', '{"type":"integer"}', id="schema"),
        pytest.param("json_schema", '{"not": {}}', None, id="cannot be enforced"),
        pytest.param("json_schema", "[]", None, id="not an object"),
        pytest.param("json_schema", '{"items":' * 700 + "1" + "}" * 700, None, id="deep"),
        pytest.param("choice", r'["\ud800"]', None, id="half of a surrogate pair"),
        pytest.param("regex", "\ud800", None, id="half of a surrogate pair as text"),
        pytest.param("json_schema", {"type": "integer"}, None, id="struct with nulls"),
        pytest.param("regex", "[ab]", "[ab]", id="regex"),
        pytest.param("regex", "(secret", None, id="broken regex"),
        pytest.param("grammar", 'start: "a"', 'start: "a"', id="lark"),
        pytest.param("grammar", 7, None, id="number"),
        pytest.param("grammar", "start: start", None, id="no text"),
        pytest.param("regex", "[^\\s\\S]", None, id="no match"),
        pytest.param("json_schema", '{"type":"null","type":"null"}', None, id="key twice"),
    ],
)
def test_a_cell_defines_the_form_of_its_row(kind: str, cell: object, expected: str | None) -> None:
    found = grammars(columns={kind: "form"}).row_grammar({"form": cell})
    if expected is not None:
        assert isinstance(found, AnswerGrammar)
        assert (found.kind, found.text) == (kind, expected)
        return
    assert isinstance(found, Failure)
    assert found.code == "invalid_override"
    assert "'form'" in found.message
    assert "secret" not in found.message


def test_a_null_cell_leaves_the_form_of_the_job() -> None:
    found = grammars(choice=["x"], columns={"choice": "form"})
    assert found.row_grammar({"form": None}) == AnswerGrammar("choice", '["x"]')
    assert grammars(columns={"choice": "form"}).row_grammar({"form": None}) is None


def test_rows_share_the_grammar_of_the_job() -> None:
    found = grammars(json_schema=json.loads('{"type": "object"}'))
    assert found.row_grammar({}) is found.row_grammar({})
