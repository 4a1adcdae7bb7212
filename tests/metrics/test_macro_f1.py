"""Macro-F1 of classifications: the values of scikit-learn 1.9's `f1_score(average="macro")`, with `labels` as in `macro_f1`."""

from typing import Any

import numpy as np
import pytest

from batchgen.metrics.base import Answer, score_answer
from tests.metrics.conftest import MakeMetrics

LABELS = {"p": "positive", "n": "negative", "u": "neutral", "-": None}
RANDOM = "pn n- up up nu un p- u- nn pn u- up up pp np n- u- u- n- pu pp p- pu u- uu n- uu u- un np nn uu up un uu np p- u- pu p-"


def rows(pairs: str) -> list[tuple[str | None, str | None]]:
    """Reference and answer of each row: `pn` is a positive row that is called negative, `p-` one without an answer."""
    return [(LABELS[pair[0]], LABELS[pair[1]]) for pair in pairs.split()]


def answers(pairs: str) -> list[Answer]:
    return [
        Answer(str(n), 0, answer or "I cannot tell.", (reference,) if reference else ())
        for n, (reference, answer) in enumerate(rows(pairs))
    ]


def metric(make: MakeMetrics, **options: Any) -> Any:
    """The second metric of `choice`."""
    return make("choice", labels=["positive", "negative", "neutral"], **options)[1]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("pp nn uu", 1.0),
        ("pn np", 0.0),
        ("pp pp pn", 0.8),  # negative and neutral are no reference: the mean is over one label
        ("pp pu nn nu", 0.6666666666666666),  # only answers have neutral: it lowers no mean
        ("p- n-", 0.0),
        ("pp p- nn np u-", 0.38888888888888884),
        ("pp " * 90 + "np " * 8 + "nn nn", 0.6453900709219859),  # accuracy is 0.92
        (RANDOM, 0.24068886813984855),
    ],
)
def test_macro_f1_equals_scikit_learn(make: MakeMetrics, pairs: str, expected: float) -> None:
    macro = metric(make)
    stats = [macro.row_stats(answer) for answer in answers(pairs)]
    assert macro.finalize(np.array(stats).sum(axis=0)) == pytest.approx(expected, abs=1e-12)
    assert len(stats[0]) == len(macro.stats)


def test_many_sums_are_converted_at_once(make: MakeMetrics) -> None:
    macro = metric(make)
    one, other = (
        np.array([macro.row_stats(a) for a in answers(pairs)]).sum(axis=0)
        for pairs in ("pp nn uu", "pn np")
    )
    assert macro.finalize(np.array([[one, other, one]])).tolist() == [[1.0, 0.0, 1.0]]
    assert np.isnan(macro.finalize(np.zeros(9)))


@pytest.mark.parametrize(
    ("response", "references", "expected"),
    [
        ("Positive.", ("positive",), (1.0, "ok", "positive", "positive")),
        ("Sentiment: negative", ("Positive",), (0.0, "ok", "negative", "positive")),
        ("who knows", ("neutral",), (0.0, "no_answer", None, "neutral")),
        ("  ", ("neutral",), (0.0, "empty", None, "neutral")),
        ("positive or negative", ("neutral",), (0.0, "no_answer", None, "neutral")),
        # Of several references the given one counts, else the first of the labels.
        ("neutral", ("negative", "neutral"), (1.0, "ok", "neutral", "neutral")),
        ("positive", ("neutral", "negative"), (0.0, "ok", "positive", "negative")),
        # Rows that are not scored.
        ("positive", (), (None, "no_reference", None, None)),
        ("positive", ("angry",), (None, "unparsed", None, None)),
        (None, ("positive",), (None, "skipped", None, None)),
    ],
)
def test_each_row_is_a_cell_of_the_confusion_matrix(
    make: MakeMetrics,
    response: str | None,
    references: tuple[str, ...],
    expected: tuple[float | None, str, str | None, str | None],
) -> None:
    macro = metric(make)
    answer = Answer("a", 0, response, references)
    found = score_answer(macro, answer)
    assert (found.value, found.status, found.answer, found.reference) == expected
    if references and response is not None:
        assert (macro.row_stats(answer) is None) == (found.value is None)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"labels": ["positive", "negative"]}, ["choice", "choice_macro_f1"]),
        ({"labels": ["1", "2", "3"], "name": "stars"}, ["stars", "stars_macro_f1"]),
        ({"labels": ["是", "否"]}, ["choice", "choice_macro_f1"]),
        ({"labels": ["A", "B", "C", "D", "F"]}, ["choice", "choice_macro_f1"]),
        ({}, ["choice"]),
        ({"labels": ["A", "B", "C", "D", "E"]}, ["choice"]),
        ({"labels": ["x", "y"], "options": "texts"}, ["choice"]),
        ({"labels": ["joy", "fear"], "multiple": True}, ["choice", "choice_f1"]),
    ],
)
def test_only_labels_that_are_classes_have_a_macro_f1(
    make: MakeMetrics, options: dict[str, Any], names: list[str]
) -> None:
    assert [one.spec.name for one in make("choice", **options)] == names
