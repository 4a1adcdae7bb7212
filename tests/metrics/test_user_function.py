"""A user's own function."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from batchgen.errors import DataError
from tests.metrics.conftest import MakeMetrics, ScoreOf

SOURCE = """
def polite(answer):
    return "please" in answer.response

def words(answer):
    return len(answer.response.split())

def fails(answer):
    raise ValueError(answer.response)

def unknown(answer):
    return None

def text(answer):
    return "high"

def infinite(answer):
    return float("inf")

def single(answer):
    import numpy
    return numpy.float32(0.5)

def huge(answer):
    return 10 ** 400

def leaves(answer):
    raise SystemExit(3)

class Own(BaseException):
    pass

def own(answer):
    raise Own("mine")

def interrupted(answer):
    raise KeyboardInterrupt

def helper(row):
    return row.fields["column"]

def nested(answer):
    return helper(answer)

def number(answer):
    return "1"

def over(answer):
    return 2.0

def negative(answer):
    return -1

def rounded(answer):
    return 1.0000000000000002

def huge_float(answer):
    return 1e308

def whole_list(answer):
    return [1]

class Meter:
    def __call__(self, answer):
        return float("nan")

meter = Meter()
"""
LINES = {
    name: SOURCE[: SOURCE.index(f"def {name}(")].count("\n") + 1
    for name in re.findall(r"^def (\w+)", SOURCE, re.M)
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE, "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("function", "value", "status", "rule"),
    [
        ("polite", 1.0, "ok", None),
        ("words", 2.0, "ok", None),
        ("fails", None, "error", "line {+1}: ValueError: …"),
        ("unknown", None, "skipped", None),
        ("text", None, "error", "line {}: text returned a text of 4 characters; expected a number"),
        ("single", 0.5, "ok", None),
        ("huge", None, "error", "line {}: huge returned a whole number of more than 300 digits"),
        ("leaves", None, "error", "line {+1}: SystemExit: 3"),
        ("own", None, "error", "line {+1}: Own: mine"),
        ("infinite", None, "error", "line {}: infinite returned inf; expected a finite number"),
        ("nested", None, "error", "line {-2}: KeyError: 'column'"),
        ("number", None, "error", "line {}: number returned the text '1'; expected a number"),
        ("over", 2.0, "ok", None),
        (
            "huge_float",
            None,
            "error",
            "line {}: huge_float returned 1e+308; expected -1e+100 to 1e+100",
        ),
        ("whole_list", None, "error", "line {}: whole_list returned an object of type list"),
    ],
)
def test_a_function_in_a_file(
    score: ScoreOf, file: str, function: str, value: float | None, status: str, rule: str | None
) -> None:
    found = score("python", "yes please", file=file, function=function)
    assert (found.value, found.status) == (value, status)
    check_rule(found.rule, function, rule)


@pytest.mark.parametrize(
    ("options", "function", "value", "rule"),
    [
        ({"unit": "fraction"}, "over", None, "over returned 2; expected 0 to 1, since its unit is fraction"),
        ({"unit": "fraction"}, "negative", None, "negative returned -1; expected 0 to 1"),
        ({"unit": "fraction"}, "huge_float", None, "returned 1e+308; expected 0 to 1"),
        ({"unit": "fraction"}, "rounded", 1.0, None),
        ({"unit": "fraction"}, "polite", 1.0, None),
        ({"unit": "count"}, "negative", None, "returned -1; expected 0 to 1e+100, since its unit is count"),
        ({"unit": "count"}, "words", 2.0, None),
        ({"range": [0, 1.5]}, "over", None, "over returned 2; expected 0 to 1.5"),
        ({"range": [-5, 5]}, "negative", -1.0, None),
    ],
)  # fmt: skip
def test_a_value_outside_its_unit_is_an_error_of_the_row(
    score: ScoreOf,
    file: str,
    options: dict[str, object],
    function: str,
    value: float | None,
    rule: str | None,
) -> None:
    found = score("python", "yes please", file=file, function=function, **options)
    assert found.value == value
    assert found.rule is rule is None or f"mine.py, line {LINES[function]}: " in str(found.rule)
    assert (rule or "") in (found.rule or "")


def test_an_object_that_is_called_is_named_by_its_class(score: ScoreOf, file: str) -> None:
    found = score("python", "yes", file=file, function="meter")
    line = SOURCE[: SOURCE.index("def __call__")].count("\n") + 1
    assert found.rule == f"mine.py, line {line}: Meter returned nan; expected a finite number"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"range": [5, 1]}, "smallest and the largest"),
        ({"range": [1]}, "smallest and the largest"),
        ({"range": [0, 1], "unit": "fraction"}, "no effect"),
    ],
)
def test_ranges_that_are_refused(
    make: MakeMetrics, file: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make("python", file=file, function="words", **options)


def check_rule(found: str | None, function: str, rule: str | None) -> None:
    """Check the text of an error: `{}` is the line of the function, `{+1}` the one after it."""
    if rule is None:
        assert found is None
        return

    def line(offset: re.Match[str]) -> str:
        return str(LINES[function] + int(offset[1] or 0))

    assert str(found).startswith(f"mine.py, {re.sub(r'[{]([+-][0-9]+)?[}]', line, rule)}")


@pytest.mark.parametrize(
    ("response", "code", "shown"),
    [
        ("a secret sentence", "raise ValueError(answer.response)", "ValueError: …"),
        ("abc", "int(answer.response)", "ValueError: invalid literal for int() with base 10: '…'"),
        ("Ann\nLee", "raise ValueError(repr(answer.response))", "ValueError: '…'"),
        ("my name is Ann Lee", "raise ValueError('found ' + answer.response[3:])", "ValueError: found…"),
        ("我的名字是李雷，住在北京", "raise ValueError('错误：' + answer.response[:9])", "ValueError: 错误：…"),
        ("zh", "{'en': 1}[answer.response]", "KeyError: …"),
        ("x", "raise ValueError('x')", "ValueError: x"),
        ("gone", "answer.fields['gone']", "KeyError: 'gone'"),
        ("x", "1 / 0", "ZeroDivisionError: division by zero"),
        ("x", "raise KeyError('column')", "KeyError: 'column'"),
        ("x", "raise Unprintable()", "Unprintable: its message cannot be shown: RuntimeError"),
        ("x", "raise ValueError('y' * 999)", "ValueError: " + "y" * 160 + "…"),
    ],
)  # fmt: skip
def test_the_message_of_an_error_has_no_text_of_the_row(
    score: ScoreOf, tmp_path: Path, response: str, code: str, shown: str
) -> None:
    path = tmp_path / "mine.py"
    unprintable = (
        "class Unprintable(Exception):\n    def __str__(self):\n        raise RuntimeError\n"
    )
    path.write_text(f"{unprintable}def f(answer):\n    {code}\n", "utf-8")
    assert (
        score("python", response, file=str(path), function="f").rule == f"mine.py, line 5: {shown}"
    )


def test_a_function_of_a_module(score: ScoreOf) -> None:
    assert score("python", "yes", function="builtins:callable").value == 0.0


def test_the_function_is_not_called_for_failed_rows(score: ScoreOf, file: str) -> None:
    assert score("python", None, file=file, function="fails").status == "skipped"


@pytest.mark.parametrize(
    ("content", "function", "message"),
    [
        (SOURCE, "missing", "has no function 'missing'"),
        ("1 +", "x", r"cannot be imported: mine.py, line 1: SyntaxError: invalid"),
        (
            "raise RuntimeError('boom')",
            "x",
            "cannot be imported: mine.py, line 1: RuntimeError: boom",
        ),
        ("import sys; sys.exit(3)", "x", "cannot be imported: mine.py, line 1: SystemExit: 3"),
        (
            "def __getattr__(name):\n    1 / 0",
            "x",
            "'x' cannot be read: mine.py, line 2: ZeroDivisionError",
        ),
        (None, "x", "cannot be read: No such file"),
    ],
)
def test_an_unloadable_function_is_an_error_at_once(
    make: MakeMetrics, tmp_path: Path, content: str | None, function: str, message: str
) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        make("python", file=str(path), function=function)


def test_ctrl_c_in_a_function_is_not_an_error_of_the_row(score: ScoreOf, file: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        score("python", "yes", file=file, function="interrupted")


def test_a_missing_module_is_an_error(make: MakeMetrics) -> None:
    message = "^module 'no_such_module' cannot be imported: ModuleNotFoundError: No module named"
    with pytest.raises(DataError, match=message):
        make("python", function="no_such_module:f")


def test_another_function_has_another_signature(make: MakeMetrics, file: str) -> None:
    before = make("python", file=file, function="polite")[0].spec.signature
    Path(file).write_text(SOURCE + "# changed", "utf-8")
    assert make("python", file=file, function="polite")[0].spec.signature != before
