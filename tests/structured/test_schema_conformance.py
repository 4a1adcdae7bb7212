"""JSON schemas are enforced exactly: no answer is invalid, and no valid value in the form that is written is excluded."""

import itertools
import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.decoding_settings import AnswerGrammar
from batchgen.structured.check_grammar import grammar_error
from batchgen.structured.row_matchers import RowMatchers
from tests.structured.byte_matchers import Acceptor, ByteDecoder, random_answer, schema_grammar

LEAVES: tuple[dict[str, Any], ...] = (
    {"type": "string", "maxLength": 5},
    {"type": "string", "minLength": 1, "maxLength": 3},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{1,3}$"},
    {"type": "string", "format": "date"},
    {"type": "integer", "minimum": -5, "maximum": 130},
    {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
    {"type": "number", "minimum": 0.5, "exclusiveMaximum": 2},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["string", "null"], "maxLength": 4},
    {"enum": ["a", 1, None, ["x"], {"k": True}]},
    {"const": "yes é 中"},
    {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]},
    {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]},
    {"$ref": "#/$defs/leaf"},
)


def random_schema(random: Random, depth: int = 2) -> dict[str, Any]:
    kind = random.choice(("leaf", "object", "array", "map", "tuple")) if depth else "leaf"
    if kind == "leaf":
        return random.choice(LEAVES)
    if kind == "array":
        least = random.randrange(3)
        items = random_schema(random, depth - 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + 2}
    if kind == "tuple":
        parts = [random_schema(random, depth - 1) for _ in range(2)]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": 2}
    if kind == "map":
        inner = random_schema(random, depth - 1)
        return {"type": "object", "additionalProperties": inner, "minProperties": 1}
    names = random.sample(["name", "a b", "ü", 'q"', "n1", "$x"], random.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: random_schema(random, depth - 1) for name in names},
        "required": random.sample(names, random.randint(0, len(names))),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schemas", "walks"), [(20, 2), pytest.param(200, 12, marks=pytest.mark.soak)]
)
def test_every_whole_answer_is_valid(schemas: int, walks: int) -> None:
    random, matchers, whole = Random(7), RowMatchers(ByteDecoder()), 0
    for _ in range(schemas):
        schema = random_schema(random) | {"$defs": {"leaf": {"type": "integer", "maximum": 3}}}
        for _ in range(walks):
            text = random_answer(matchers, schema_grammar(schema), random)
            if text is not None:
                whole += 1
                assert jsonschema_rs.is_valid(schema, json.loads(text)), (schema, text)
    assert whole > schemas * walks * 0.8


def instances(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema, with properties in its order."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([instances(one) for one in schema["anyOf"]])
    if schema["type"] == "object":
        required = schema["required"]
        made = {
            name: instances(inner)
            if name in required
            else st.one_of(st.just(...), instances(inner))
            for name, inner in schema["properties"].items()
        }
        whole = st.fixed_dictionaries(made)
        return whole.map(lambda value: {k: value[k] for k in made if value[k] is not ...})
    if schema["type"] == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems", 5)
        return st.lists(instances(schema["items"]), min_size=least, max_size=most)
    letters = st.characters(exclude_categories=["Cs"])
    return {
        "string": st.text(letters, max_size=schema.get("maxLength", 30)),
        "integer": st.integers(schema.get("minimum"), schema.get("maximum")),
        "boolean": st.booleans(),
        "null": st.none(),
    }[schema["type"]]


TICKET: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["billing", "delivery", None, 3]},
        "urgent": {"type": "boolean"},
        "summary": {"type": "string", "maxLength": 12},
        "items": {
            "type": "array",
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "note": {"type": "string"}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
        "score": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "null"}]},
    },
    "required": ["topic", "items"],
    "additionalProperties": False,
}


@settings(max_examples=60, database=None)
@given(instances(TICKET))
def test_every_value_of_a_schema_is_accepted(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    # Control characters are written by their numbers, the last of ASCII among them.
    text = text.replace("\x7f", "\\u007f")
    assert TICKET_FORM.accepts(text)
    assert not TICKET_FORM.accepts(text[:-1])
    assert not TICKET_FORM.accepts(f"{text} ")


TICKET_FORM = Acceptor(schema_grammar(TICKET))


@pytest.mark.parametrize(
    ("grammar", "accepted", "rejected"),
    [
        pytest.param(
            AnswerGrammar("json_object", ""),
            ["{}", '{"a":[1,{"b":null}],"é":-1.5e3}'],
            ["", "[]", '{"a":1,}', '{ "a":1}', '{"a": 1}', '{"a":01}', "{}{}"],
            id="object",
        ),
        pytest.param(
            AnswerGrammar("choice", '["in","inside","a\\nb","(x|y)","中 /\\\\","é"]'),
            ["in", "inside", "a\nb", "(x|y)", "中 /\\", "é"],
            ["", "ins", "x", "In", "in ", "anb"],
            id="choice",
        ),
        pytest.param(
            AnswerGrammar("regex", r"(yes|no): \d{2}[^a]?/"),
            ["yes: 12/", "no: 00b/", "no: 00中/"],
            ["yes: 1/", "yes: 123", "no: 00a/", " yes: 12/"],
            id="regex",
        ),
        pytest.param(
            AnswerGrammar("grammar", 'start: "(" start* ")"'),
            ["()", "(()(()))"],
            ["", "(", "())", "( )"],
            id="lark",
        ),
    ],
)
def test_the_texts_of_a_form(
    grammar: AnswerGrammar, accepted: list[str], rejected: list[str]
) -> None:
    form = Acceptor(grammar)
    assert {text: form.accepts(text) for text in accepted} == dict.fromkeys(accepted, True)
    assert {text: form.accepts(text) for text in rejected} == dict.fromkeys(rejected, False)


PATTERNS = (
    *(
        "a*b?",
        "(ab|a)c+",
        "[^x-z]{2,4}",
        "x{0}y",
        "(a|b)*abb",
        "é?中+",
        "[a-c]-?[0-9]",
        "\\w+@\\w+",
    ),
    *(".{3}", "\\s\\S", "a|", "(?i:Ab)c", "[\\d.]+", "\\.\\*"),
)


@settings(max_examples=300, database=None)
@given(st.sampled_from(PATTERNS), st.text("abcxyz -.*@09AB中é\n", max_size=6))
def test_a_regular_expression_is_that_of_a_full_match(pattern: str, text: str) -> None:
    expected = regex.fullmatch(pattern, text) is not None
    assert _form_of(pattern).accepts(text) is expected, (pattern, text)


def _form_of(pattern: str) -> Acceptor:
    if pattern not in _FORMS:
        _FORMS[pattern] = Acceptor(AnswerGrammar("regex", pattern))
    return _FORMS[pattern]


_FORMS: dict[str, Acceptor] = {}


def test_a_choice_of_thousands_of_labels_compiles() -> None:
    labels = [f"label {n} / é" for n in range(5_000)]
    form = Acceptor(AnswerGrammar("choice", json.dumps(labels)))
    assert form.accepts(labels[4_321])
    assert not form.accepts("label 5000 / é")


@pytest.fixture(scope="module")
def official_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON Schema Test Suite, in the source archive of the package jsonschema."""
    folder = tmp_path_factory.mktemp("suite")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "jsonschema"]
    done = subprocess.run(
        [*command, "jsonschema==4.26.0", "-d", str(folder)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("no package index offers the source archive of jsonschema 4.26.0")
    return next(folder.glob("*.tar.gz"))


def _groups(archive: Path) -> Iterator[tuple[str, Any]]:
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            folder, _, name = member.name.rpartition("/")
            if folder.endswith("/tests/draft2020-12") and name.endswith(".json"):
                content = files.extractfile(member)
                assert content is not None
                yield from ((name.removesuffix(".json"), one) for one in json.load(content))


def _texts(value: Any) -> Iterator[str]:
    """Compact JSON of a value in any order of its properties."""
    orders = (
        map(dict, itertools.permutations(value.items()))
        if isinstance(value, dict) and len(value) <= 5
        else [value]
    )
    for one in orders:
        yield json.dumps(one, separators=(",", ":"), ensure_ascii=False)


@pytest.mark.soak
def test_the_official_suite(official_suite: Path) -> None:
    counts: Counter[str] = Counter()
    stricter = set()
    for name, group in _groups(official_suite):
        schema = group["schema"]
        if not isinstance(schema, dict) or grammar_error(schema_grammar(schema)):
            counts["refused"] += 1
            continue
        form = Acceptor(schema_grammar(schema))
        for case in group["tests"]:
            accepted = any(form.accepts(text) for text in _texts(case["data"]))
            assert case["valid"] or not accepted, (schema, case)
            counts["agrees" if accepted == case["valid"] else "stricter"] += 1
            if accepted != case["valid"]:
                stricter.add(name)
    # 1.0 where 1 is meant, and texts that are not of their `format`, which is only an annotation by default.
    assert stricter <= {"const", "enum", "format", "type"}
    assert counts["agrees"] > 500
    assert counts["stricter"] < 25
    assert counts["refused"] < 220
