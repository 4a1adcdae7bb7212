"""A user's own function."""

from pathlib import Path

import pytest

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
"""


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
        ("fails", None, "error", "ValueError"),
        ("unknown", None, "skipped", None),
        ("text", None, "error", "returned str"),
        ("single", 0.5, "ok", None),
        ("huge", None, "error", "returned int"),
        ("leaves", None, "error", "SystemExit"),
        ("infinite", None, "error", "returned float"),
    ],
)
def test_a_function_in_a_file(
    score: ScoreOf, file: str, function: str, value: float | None, status: str, rule: str | None
) -> None:
    found = score("python", "yes please", file=file, function=function)
    assert (found.value, found.status, found.rule) == (value, status, rule)


def test_a_function_of_a_module(score: ScoreOf) -> None:
    assert score("python", "yes", function="builtins:callable").value == 0.0


def test_the_function_is_not_called_for_failed_rows(score: ScoreOf, file: str) -> None:
    assert score("python", None, file=file, function="fails").status == "skipped"


@pytest.mark.parametrize(
    ("content", "function", "message"),
    [
        (SOURCE, "missing", "has no function 'missing'"),
        ("1 +", "x", "cannot be imported: SyntaxError"),
        ("raise RuntimeError('boom')", "x", "cannot be imported: RuntimeError: boom"),
        ("import sys; sys.exit(3)", "x", "cannot be imported: SystemExit"),
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


def test_a_missing_module_is_an_error(make: MakeMetrics) -> None:
    with pytest.raises(DataError, match="module 'no_such_module' cannot be imported"):
        make("python", function="no_such_module:f")


def test_another_function_has_another_signature(make: MakeMetrics, file: str) -> None:
    before = make("python", file=file, function="polite")[0].spec.signature
    Path(file).write_text(SOURCE + "# changed", "utf-8")
    assert make("python", file=file, function="polite")[0].spec.signature != before
