import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchgen.jobfile.tree import Node, SourceLocation, find_node, to_python
from batchgen.jobfile.yaml_reader import ParsedYaml, read_yaml, resolve_scalar


def read(text: str) -> ParsedYaml:
    return read_yaml(text, file="x.yaml", origin="job")


def top(text: str) -> Node:
    reading = read(text)
    assert reading.problems == ()
    assert reading.top is not None
    return reading.top


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-5", 1e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.25", -0.25),
        ("+7", 7),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("017", "017"),
        ("00.5", "00.5"),
        ("1_000", "1_000"),
        ("12:30:00", "12:30:00"),
        ("2026-11-01", "2026-11-01"),
        ("=", "="),
        ("1e", "1e"),
        ("tRUE", "tRUE"),
        ("9" * 30, "9" * 30),
    ],
)
def test_scalars_are_read_as_by_yaml_1_2(written: str, meant: object) -> None:
    found = resolve_scalar(written)
    assert found == meant
    assert type(found) is type(meant)


def test_quoted_and_block_scalars_are_text() -> None:
    assert to_python(top("a: '1'\nb: \"true\"\nc: |\n  1\nd: >-\n  null\n")) == {
        "a": "1",
        "b": "true",
        "c": "1\n",
        "d": "null",
    }


def test_every_key_and_item_has_its_place() -> None:
    tree = top("a: 1\nb:\n  c: [x,\n      {d: 2}]\n")
    places = {
        path: node.location
        for path in (("a",), ("b",), ("b", "c"), ("b", "c", 0), ("b", "c", 1), ("b", "c", 1, "d"))
        if (node := find_node(tree, path)) is not None
    }
    assert places == {
        ("a",): SourceLocation("x.yaml", 1, 1),
        ("b",): SourceLocation("x.yaml", 2, 1),
        ("b", "c"): SourceLocation("x.yaml", 3, 3),
        ("b", "c", 0): SourceLocation("x.yaml", 3, 7),
        ("b", "c", 1): SourceLocation("x.yaml", 4, 7),
        ("b", "c", 1, "d"): SourceLocation("x.yaml", 4, 8),
    }


def test_a_byte_is_not_a_column() -> None:
    assert find_node(top("{a: 语文, b: 2}"), ("b",)) == Node(
        2, SourceLocation("x.yaml", 1, 9), "job"
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        pytest.param("a: 1\nb: 2\na: 3\n", 3, 1, "given twice (lines 1 and 3)", id="duplicate"),
        pytest.param("a: &x 1\n", 1, 1, "anchors", id="anchor"),
        pytest.param("a: [1, *x]\n", 1, 8, "anchors", id="alias"),
        pytest.param("a: !!python/name:os.system x\n", 1, 1, "tags", id="tag"),
        pytest.param("a: !mine [1]\n", 1, 1, "tags", id="own tag"),
        pytest.param("!x a: 1\n", 1, 1, "tags", id="tag on a key"),
        pytest.param("a: 1\n<<: {b: 2}\n", 2, 1, "merge keys", id="merge"),
        pytest.param("a: {{ x }}\n", 1, 1, "bare {{", id="template"),
        pytest.param("a:\n  - {{ x }}\n", 2, 5, "bare {{", id="template in a list"),
        pytest.param("a: {{ x }} more\n", 1, 4, "bare {{", id="template and text"),
        pytest.param("a: {% if x %}\n", 1, 4, "bare {{", id="template block"),
        pytest.param("a: Hello: {{ x }}\n", 1, 9, "second ': '", id="colon"),
        pytest.param("a:\n\tb: 1\n", 2, 1, "a tab", id="tab"),
        pytest.param("a: 'x\nb: 1\n", 1, 4, "not closed", id="quote"),
        pytest.param("a: [1, 2\nb: 1\n", 1, 4, "not closed", id="bracket"),
        pytest.param("a: *.csv\n", 1, 5, "alias", id="glob"),
        pytest.param("a: @x\n", 1, 4, "reserves", id="reserved"),
        pytest.param("a: 1\nbcd\ne: 2\n", 3, 1, "not `key: value`", id="no key"),
        pytest.param("a:\n  b: 1\n c: 2\n", 3, 2, "wrong indentation", id="indentation"),
        pytest.param("a: 1\n---\nb: 1\n", 2, 1, "second document", id="documents"),
        pytest.param("1: x\n", 1, 1, "as a key; found 1", id="number as key"),
        pytest.param("true: x\n", 1, 1, "as a key; found true", id="boolean as key"),
        pytest.param("? [a]\n: b\n", 1, 3, "found a list or a mapping", id="list as key"),
        pytest.param("a: b\0c\n", 1, 1, "U+0000", id="NUL"),
        pytest.param("a: 1\r\nb: \x1b[2J\n", 2, 1, "U+001B", id="escape character"),
        pytest.param('a: "\\0"\n', 1, 1, "NUL", id="escaped NUL"),
        pytest.param('a: "\\ud800"\n', 1, 1, "lone surrogate", id="surrogate"),
        pytest.param('a: "\\U00110000"\n', 1, 7, "out of range", id="no such character"),
        pytest.param(f"a: {'9' * 5000}\n", 1, 1, "64 bits", id="long number"),
        pytest.param("a: 9223372036854775808\n", 1, 1, "64 bits", id="large number"),
        pytest.param("[" * 30, 1, 22, "nested more than 20", id="deep list"),
        pytest.param("{" * 30, 1, 1, "bare {{", id="deep mapping"),
    ],
)
def test_unsupported_yaml_is_rejected_at_its_place(
    text: str, line: int, column: int, words: str
) -> None:
    problem = read(text).problems[-1]
    assert words in problem.message
    assert (problem.file, problem.line, problem.column) == ("x.yaml", line, column)


def test_a_template_that_breaks_yaml_is_one_problem() -> None:
    assert len(read("a: {{ x['y'] }}\n").problems) == 1
    assert len(read("a: {{ x }} more\n").problems) == 1


def test_valid_parts_are_read_despite_problems() -> None:
    reading = read("a: &x 1\nb: {{ y }}\na: 2\nc: 3\n")
    assert [p.message.partition(" ")[0] for p in reading.problems] == ["YAML", "a", "given"]
    assert reading.top is not None
    assert to_python(reading.top) == {"a": 2, "b": None, "c": 3}


def test_an_empty_document_has_no_value() -> None:
    assert read("") == ParsedYaml(None, ())
    assert read("# only a comment\n") == ParsedYaml(None, ())


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
# YAML folds U+2028 and rejects control characters and U+FFFE, which JSON allows.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]), max_size=12)
VALUES = st.recursive(
    SCALARS | TEXTS, lambda v: st.lists(v, max_size=4) | st.dictionaries(TEXTS, v, max_size=4)
)


@settings(max_examples=40)
@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_json_is_read_as_json(value: dict[str, object]) -> None:
    """JSON is a subset of YAML 1.2, so this reader must agree with any JSON reader."""
    assert to_python(top(json.dumps(value, ensure_ascii=False))) == value


PIECES = re.split(
    "~",
    """\
a~b: ~- ~{~}~[~]~,~: ~? ~&a ~*a~!!str ~!~'~"~\\~\\U0011~#~{{ x }}~<<: ~1e9~.nan~é~语~\
%YAML 9~---\n~...\n~|\n~>-\n~\n~\n  ~\t~\ud800~\0~\ufeff~\x85""",
)
YAMLISH = st.lists(st.sampled_from([*PIECES, "~"]), max_size=60).map("".join)


@settings(max_examples=150)
@given(YAMLISH | st.text(max_size=200))
def test_reading_any_text_ends_in_values_or_problems(text: str) -> None:
    reading = read(text)
    assert all(p.message and p.line >= 1 and p.column >= 1 for p in reading.problems)
