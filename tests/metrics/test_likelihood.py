"""Likelihood metrics on likelihoods of a model, against numbers computed by hand."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from batchgen.metrics.base import Answer
from batchgen.metrics.likelihood_columns import likelihood_column
from batchgen.metrics.registry import METRIC_TYPES, make_metrics
from batchgen.records import Score

Cell = dict[str, Any]


def likelihood(logprob: float, tokens: int = 1, *, greedy: bool = False, failure: str = "") -> Cell:
    return {
        "logprob": logprob,
        "tokens": tokens,
        "greedy": greedy,
        "failure": failure or None,
        "note": None,
    }


def make(**options: Any) -> Any:
    (metric,) = make_metrics(METRIC_TYPES[options["type"]].options.model_validate(options))
    return metric


def answer(
    metric: Any, likelihoods: Sequence[Cell], references: Sequence[str] = (), **fields: Any
) -> Answer:
    cells = {likelihood_column(metric.spec.name): list(likelihoods)}
    return Answer("a", 0, "a response", tuple(references), fields={**fields, **cells})


def parts(score: Score) -> tuple[Any, ...]:
    return score.value, score.status, score.answer, score.rule


TEXT = likelihood(-6.0, 3)
VALUES: list[tuple[dict[str, Any], float]] = [
    ({"type": "loglikelihood"}, -6.0),
    ({"type": "loglikelihood", "per": "token"}, -2.0),
    ({"type": "perplexity"}, math.e**2),
    # 北京 has six bytes.
    ({"type": "bits_per_byte"}, 1 / math.log(2)),
]


@pytest.mark.parametrize(("options", "value"), VALUES)
def test_a_text_has_the_value_of_its_formula(options: dict[str, Any], value: float) -> None:
    metric = make(**options)
    whole = answer(metric, [TEXT], ["北京"])
    assert metric.continuations(whole) == ("北京",)
    assert parts(metric.score(whole)) == (pytest.approx(value, abs=1e-12), "ok", None, None)
    of_column = make(**options, column="text", delimiter=" ")
    other = answer(of_column, [likelihood(-6.0, 3, greedy=True)], ["no"], text="北京")
    assert of_column.continuations(other) == (" 北京",)
    assert parts(of_column.score(other)) == (pytest.approx(value, abs=1e-12), "ok", None, "greedy")


@pytest.mark.parametrize(
    ("cell", "texts"), [(18, ("18",)), ('["a"]', ('["a"]',)), ({"x": 1}, ()), (None, ())]
)
def test_a_column_holds_a_text_as_it_stands(cell: object, texts: tuple[str, ...]) -> None:
    metric = make(type="loglikelihood", column="text")
    row = answer(metric, [], [], text=cell)
    assert metric.continuations(row) == texts
    assert metric.score(row).status == (
        "skipped" if texts else "no_reference" if cell is None else "unparsed"
    )


UNSCORED: list[tuple[Sequence[Cell], Sequence[str], str, str | None]] = [
    ([], [], "no_reference", None),
    ([], [""], "empty", None),
    ([], ["x"], "skipped", None),
    ([likelihood(0, failure="continuation_too_long")], ["x"], "error", "continuation_too_long"),
    ([likelihood(-math.inf)], ["x"], "error", "impossible"),
    ([likelihood(-1401, 2)], ["x"], "error", "impossible"),
]


@pytest.mark.parametrize(("likelihoods", "references", "status", "rule"), UNSCORED)
@pytest.mark.parametrize("kind", ["loglikelihood", "perplexity", "bits_per_byte"])
def test_rows_without_a_likelihood_are_not_scored(
    kind: str, likelihoods: Sequence[Cell], references: Sequence[str], status: str, rule: str | None
) -> None:
    metric = make(type=kind)
    assert parts(metric.score(answer(metric, likelihoods, references))) == (
        None,
        status,
        None,
        rule,
    )
    if kind != "loglikelihood":
        assert metric.row_stats(answer(metric, likelihoods, references)) is None


def test_the_most_likely_reference_is_used() -> None:
    metric = make(type="loglikelihood")
    likelihoods = [likelihood(-3.0), likelihood(-1.0), likelihood(0, failure="nonfinite_logits")]
    assert metric.score(answer(metric, likelihoods, ["a", "b", "c"])).value == -1.0


@pytest.mark.parametrize(
    ("kind", "value"),
    [("perplexity", math.exp(9 / 4)), ("bits_per_byte", 9 / 7 / math.log(2))],
)
def test_a_corpus_is_weighted_by_tokens_or_bytes_not_rows(kind: str, value: float) -> None:
    metric = make(type=kind)
    rows = [
        metric.row_stats(answer(metric, [likelihood(-6.0, 3)], ["北京"])),
        metric.row_stats(answer(metric, [likelihood(-3.0, 1)], ["x"])),
    ]
    sums = np.array([np.sum(rows, axis=0), [0.0, 0.0]])
    assert metric.finalize(sums)[0] == pytest.approx(value, abs=1e-12)
    assert np.isfinite(metric.finalize(sums)).all()


OPTIONS = ["cat", "elephants", "犬"]
LIKELIHOODS = [likelihood(-3.0, 1), likelihood(-4.5, 3), likelihood(-3.2, 2)]
"""By text the first is likeliest, by characters (3, 9, 1) and bytes (3, 9, 3) the second."""


@pytest.mark.parametrize(
    ("normalize", "chosen"), [("none", "A"), ("characters", "B"), ("bytes", "B")]
)
def test_long_options_win_by_length(normalize: str, chosen: str) -> None:
    metric = make(type="multiple_choice", options="o", normalize=normalize, delimiter=" ")
    row = answer(metric, LIKELIHOODS, [chosen], o=OPTIONS)
    assert metric.continuations(row) == [" cat", " elephants", " 犬"]
    assert parts(metric.score(row)) == (1.0, "ok", chosen, "likeliest")
    assert metric.score(answer(metric, LIKELIHOODS, ["C"], o=OPTIONS)).value == 0.0


def test_bytes_and_characters_differ_in_chinese() -> None:
    likelihoods = [likelihood(-4.0), likelihood(-5.0)]
    for normalize, chosen in (("characters", "A"), ("bytes", "B")):
        metric = make(type="multiple_choice", options="o", normalize=normalize)
        # 4 and 4 characters; 4 and 12 bytes.
        row = answer(metric, likelihoods, ["A"], o=["dogs", "一群大狗"])
        assert metric.score(row).answer == chosen


GOLD: list[tuple[Any, str, str, str, float | None, str | None]] = [
    (OPTIONS, "A", "auto", "ok", 1.0, "likeliest"),
    (OPTIONS, "a", "auto", "ok", 1.0, "likeliest"),
    (OPTIONS, "0", "auto", "ok", 1.0, "likeliest"),
    (OPTIONS, " Cat.", "auto", "ok", 1.0, "likeliest"),
    (OPTIONS, "3", "auto", "unparsed", None, "reference"),
    (OPTIONS, "-1", "auto", "unparsed", None, "reference"),
    (OPTIONS, "A", "index", "unparsed", None, "reference"),
    ({"p": "cat", "q": "elephants", "r": "犬"}, "p", "auto", "ok", 1.0, "likeliest"),
    ('["cat", "elephants", "dog"]', "cat", "text", "ok", 1.0, "likeliest"),
    (["0", "1", "2"], "1", "auto", "ok", 0.0, "likeliest"),
    # The text of the third, the number of the second.
    (["7", "0", "1"], "1", "auto", "unparsed", None, "ambiguous_reference"),
    (["1", "0", "7"], "1", "text", "ok", 1.0, "likeliest"),
    (["cat", "", "dog"], "A", "auto", "unparsed", None, "empty_option"),
    (["cat"], "A", "auto", "unparsed", None, "options"),
    (None, "A", "auto", "unparsed", None, "options"),
    ("not JSON", "A", "auto", "unparsed", None, "options"),
]


@pytest.mark.parametrize(("options", "reference", "gold", "status", "value", "rule"), GOLD)
def test_the_reference_selects_the_correct_option(
    options: Any, reference: str, gold: str, status: str, value: float | None, rule: str | None
) -> None:
    metric = make(type="multiple_choice", options="o", gold=gold)
    row = answer(metric, LIKELIHOODS, [reference], o=options)
    score = metric.score(row)
    assert (score.status, score.value, score.rule) == (status, value, rule)
    assert (len(metric.continuations(row)) == 0) == (rule in ("options", "empty_option"))


TIES: list[tuple[Sequence[str], str, tuple[float, str, str, str]]] = [
    (["x", "y", "z"], "A", (0.0, "no_answer", "A=B", "tie")),
    (["x", "y", "z"], "C", (0.0, "ok", "A", "likeliest")),
    (["x", "x", "z"], "B", (1.0, "ok", "A", "likeliest")),
]


@pytest.mark.parametrize(("options", "reference", "expected"), TIES)
def test_a_tie_is_a_choice_only_between_equal_texts(
    options: Sequence[str], reference: str, expected: tuple[float, str, str, str]
) -> None:
    metric = make(type="multiple_choice", options="o")
    likelihoods = [likelihood(-1.0), likelihood(-1.0), likelihood(-2.0)]
    assert parts(metric.score(answer(metric, likelihoods, [reference], o=options))) == expected


def test_one_option_without_likelihood_leaves_the_row_unscored() -> None:
    metric = make(type="multiple_choice", options="o")
    likelihoods = [
        likelihood(-1.0),
        likelihood(0, failure="continuation_too_long"),
        likelihood(-2.0),
    ]
    score = metric.score(answer(metric, likelihoods, ["A"], o=OPTIONS))
    assert parts(score) == (None, "error", None, "continuation_too_long")
    assert parts(metric.score(answer(metric, [], ["A"], o=OPTIONS)))[:2] == (None, "skipped")


def test_many_options_have_labels() -> None:
    metric = make(type="multiple_choice", options="o")
    many = [f"option {n}" for n in range(40)]
    likelihoods = [likelihood(-float(n != 30)) for n in range(40)]
    assert metric.score(answer(metric, likelihoods, ["30"], o=many)).answer == "AE"
