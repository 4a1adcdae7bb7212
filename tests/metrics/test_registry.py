"""Every metric of the registry on every hard text: none raises, all scores are in range."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batchgen.metrics as metrics_package
from batchgen.job.evaluate import Evaluate
from batchgen.metrics.base import Answer, Metric, MetricType, score_answer
from batchgen.metrics.registry import METRIC_TYPES, make_metrics
from batchgen.records import Score

OPTIONS: dict[str, dict[str, Any]] = {
    "contains": {"texts": ["18", "好"]},
    "regex": {"pattern": r"\d+"},
    "choice": {"options": "options"},
    "json_schema": {},
    "language": {"expect": "zh"},
    "ifeval": {
        "checks": [{"id": "punctuation:no_comma"}],
        "variants": ["prompt_strict", "instruction_loose"],
    },
    "multiple_choice": {"options": "options"},
    "math_equal": {"timeout": 0.3},
    "pass_at_k": {"of": "x"},
    "pass_hat_k": {"of": "x"},
    "majority_at_k": {"of": "x"},
    "python": {"function": "builtins:callable"},
}

TEXTS: dict[str, str | None] = {
    "english": "The answer is 18.",
    "chinese": "答案是十八，共１８个。",
    "empty": "",
    "space": " \n\u3000",
    "none": None,
    "long": "word 12 " * 12_500,
    "long_chinese": "今天天气很好，我们去公园玩。" * 7000,
    "long_line": "a" * 100_000,
    "long_digits": "1" * 100_000,
    "brackets": "[{(" * 8_000,
    "fences": "```" * 8_000,
    "cues": "The answer is " * 2000,
    "zh_cues": "答案是" * 8_000,
    "hashes": "#### " * 5_000,
    "boxes": "\\boxed{" * 4_000,
    "spaces": "answer" + " " * 100_000 + "x",
    "commas": "1," * 12_000,
    "backslashes": "\\" * 100_000,
    "newlines": "\n" * 100_000,
    "right_to_left": "الجواب هو ١٨ \u202e",
    "emoji": "👍🏽👨‍👩‍👧‍👦 18️⃣",
    "nul": "\0answer: 18\0",
    "surrogate": "\ud800 18",
    "combining": "e\u0301" * 1000 + "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L",
}


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> list[Metric]:
    schema = tmp_path_factory.mktemp("schema") / "s.json"
    schema.write_text('{"type": "object"}', "utf-8")
    given = {**OPTIONS, "json_schema": {"schema": str(schema)}}
    return [
        metric
        for kind, entry in METRIC_TYPES.items()
        for metric in make_metrics(
            entry.options.model_validate({"type": kind, **given.get(kind, {})})
        )
    ]


def check(score: Score, metric: Metric) -> None:
    assert score.metric == metric.spec.name
    if score.status == "ok":
        assert score.value is not None
    if score.status in ("no_reference", "error", "skipped"):
        assert score.value is None
    if score.status == "unparsed":  # a reference has no value, a response is wrong
        assert score.value in (None, 0.0)
    if score.value is not None and metric.spec.unit == "fraction":
        assert 0 <= score.value <= 1


def score_all(metrics: list[Metric], answer: Answer) -> None:
    for metric in metrics:
        score_one(metric, answer)


def score_one(metric: Any, answer: Answer) -> None:
    if hasattr(metric, "compute"):
        value = metric.compute([answer, answer], 0.95).value
        assert value is None or 0 <= value <= 1
    elif hasattr(metric, "score_group"):
        check(metric.score_group([answer, answer], []), metric)
    else:
        score = score_answer(metric, answer)
        check(score, metric)
        if hasattr(metric, "row_stats") and score.status not in ("skipped", "no_reference"):
            stats = metric.row_stats(answer)
            assert (stats is None) == (score.value is None)
            assert stats is None or len(stats) == len(metric.stats)


@pytest.mark.parametrize("name", TEXTS)
def test_hard_texts(metrics: list[Metric], name: str) -> None:
    text = TEXTS[name]
    score_all(metrics, Answer("a", 0, text, ("18", "好"), prompt="How many?"))
    score_all(metrics, Answer("a", 0, "18", (text or "",), fields={"options": text}))


def test_without_references(metrics: list[Metric]) -> None:
    score_all(metrics, Answer("a", 0, "18"))


@settings(max_examples=150, deadline=None)
@given(
    response=st.text() | st.text("0123456789.,-/%$A B答案是百十{}\\boxed#*\"'[]\n"),
    reference=st.text(max_size=20),
)
def test_any_text(response: str, reference: str) -> None:
    # math_equal starts a process for each metric made: see test_math_equal.py.
    heavy = ("json_schema", "duplicates", "math_equal")
    light = [kind for kind in METRIC_TYPES if kind not in heavy]
    made = [
        metric
        for kind in light
        for metric in make_metrics(
            METRIC_TYPES[kind].options.model_validate({"type": kind, **OPTIONS.get(kind, {})})
        )
    ]
    score_all(made, Answer("a", 0, response, (reference,)))


def definitions() -> Iterator[tuple[str, MetricType[Any]]]:
    """Every definition of a metric in the package, with its module."""
    for found in pkgutil.walk_packages(metrics_package.__path__, "batchgen.metrics."):
        module = importlib.import_module(found.name)
        for value in vars(module).values():
            if isinstance(value, MetricType) and value.options.__module__ == found.name:
                yield found.name, value


def test_every_metric_is_defined_in_the_file_of_its_options_and_registered() -> None:
    defined = {metric.word: metric for _, metric in definitions()}
    assert defined == dict(METRIC_TYPES)


@pytest.mark.parametrize("word", [w for w in METRIC_TYPES if w not in OPTIONS])
def test_every_registered_type_is_a_type_of_the_job(word: str) -> None:
    (options,) = Evaluate.model_validate({"metrics": [word], "reference": "r"}).metrics
    assert type(options) is METRIC_TYPES[word].options


def test_an_answer_without_what_a_metric_needs_is_not_scored() -> None:
    (exact,) = make_metrics(METRIC_TYPES["exact"].options())
    (length,) = make_metrics(METRIC_TYPES["length"].options())
    assert score_answer(exact, Answer("a", 0, None, ("18",))).status == "skipped"  # type: ignore[arg-type] # a row metric
    assert score_answer(exact, Answer("a", 0, "18")).status == "no_reference"  # type: ignore[arg-type] # as above
    assert score_answer(length, Answer("a", 0, "18")).value == 2  # type: ignore[arg-type] # as above
