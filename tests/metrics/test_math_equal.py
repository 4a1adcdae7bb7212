"""Equality by algebra, through the real math-verify, in a process of its own."""

import sys
import threading
from time import perf_counter

import pytest

from batchgen.errors import DataError
from batchgen.metrics.base import Answer, Metric, score_answer
from batchgen.records import Score
from tests.metrics.conftest import MakeMetrics


@pytest.fixture(scope="module")
def metric() -> Metric:
    from batchgen.metrics.registry import METRIC_TYPES, make_metrics

    options = METRIC_TYPES["math_equal"].options.model_validate({"type": "math_equal"})
    return make_metrics(options)[0]


def scored(metric: Metric, response: str, *references: str) -> Score:
    return score_answer(metric, Answer("a", 0, response, references))  # type: ignore[arg-type] # a row metric


@pytest.mark.parametrize(
    ("response", "reference", "value"),
    [
        (r"\boxed{5 + 3x}", "3x + 5", 1),
        ("3x + 5", "3x + 5", 1),
        ("The answer is 3x + 5.", "$5 + 3x$", 1),
        ("The answer is 3x + 5.", "3", 0),
        ("The answer is 3x + 2 because of the slope.", "3x + 2", 1),
        (r"\boxed{3x + 2}", "3x + 5", 0),
        (r"So it is $\sqrt{8}$.", r"2\sqrt{2}", 1),
        (r"\boxed{2\sqrt{3}}", r"2\sqrt{2}", 0),
        (r"\boxed{(3,4)}", "(3, 4)", 1),
        (r"\boxed{(3,4)}", "(3, 5)", 0),
        (r"\boxed{(3,4)}", "(4, 3)", 0),
        (r"\boxed{3}, \boxed{5}, \boxed{7}", r"\boxed{3,5,7}", 1),
        (r"$\{1, 2\}$", r"\{2, 1\}", 1),
        (r"\boxed{\frac{x^2-1}{x-1}}", "x + 1", 1),
        (r"\boxed{(x+1)^2}", "x^2 + 2x + 1", 1),
        (r"\boxed{2\pi}", r"2\pi", 1),
        (r"\boxed{2\pi}", "2", 0),
        ("0.5", r"\frac{1}{2}", 1),
        ("#### 18", "18", 1),
        ("答案是 3x+5。", "5+3x", 1),
        (r"\boxed{x = 5}", "5", 1),
    ],
)
def test_expressions_are_compared_by_algebra(
    metric: Metric, response: str, reference: str, value: float
) -> None:
    found = scored(metric, response, reference)
    assert (found.value, found.status) == (value, "ok")


def test_a_missing_value_has_a_reason(metric: Metric) -> None:
    assert scored(metric, "I do not know", "3x").status == "no_answer"
    assert scored(metric, " ", "3x").status == "empty"
    assert scored(metric, "$3x$", "no formula").status == "unparsed"


@pytest.mark.timing
def test_an_evil_expression_stops_only_its_own_row(make: MakeMetrics) -> None:
    (short,) = make("math_equal", timeout=1.0)
    started = perf_counter()
    evil = scored(short, r"\boxed{9^{9^{9^{9^{9}}}}}", r"9^{9^{9^{9}}} + 1")
    assert evil.value in (None, 0.0)
    assert perf_counter() - started < 20
    assert scored(short, r"\boxed{5+x}", "x+5").value == 1.0


@pytest.mark.parametrize(
    "text",
    ["$", "\\boxed{", "$$$$", "\\frac", "\ud800 18", "\0", "{" * 500, "1/0", "$1/0$", "x" * 5000],
)
def test_any_text_has_a_score_or_a_reason(metric: Metric, text: str) -> None:
    for response, reference in ((text, "3x"), ("$3x$", text)):
        found = scored(metric, response, reference)
        assert found.value in (None, 0.0)


def test_it_works_outside_the_main_thread(metric: Metric) -> None:
    found: list[Score] = []
    thread = threading.Thread(target=lambda: found.append(scored(metric, "$x+1$", "1+x")))
    thread.start()
    thread.join()
    assert found[0].value == 1.0


def test_a_missing_package_is_named(make: MakeMetrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.metrics.math_equal.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(DataError, match="math_verify") as caught:
        make("math_equal")
    assert "[math]" in (caught.value.hint or "")
