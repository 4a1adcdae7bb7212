"""Brier score and expected calibration error of label probabilities, against values by hand."""

import math
from typing import Any

import numpy as np
import pytest

from batchgen.metrics.base import Answer
from tests.metrics.conftest import MakeMetrics


def answer(shares: Any, *references: str) -> Answer:
    cell = shares
    if isinstance(shares, dict):
        cell = [{"label": label, "probability": share} for label, share in shares.items()]
    return Answer("1", 0, "a", references, fields={"choice_probabilities": cell})


@pytest.mark.parametrize(
    ("shares", "references", "brier", "error"),
    [
        ({"a": 0.7, "b": 0.3}, ["a"], 0.18, 0.3),
        ({"a": 0.7, "b": 0.3}, ["b"], 0.98, 0.7),
        ({"a": 0.7, "b": 0.2, "c": 0.1}, [" b "], 0.49 + 0.64 + 0.01, 0.7),
        ({"a": 0.5, "b": 0.5}, ["b"], 0.5, 0.5),
        ({"a": 1.0, "b": 0.0}, ["a"], 0.0, 0.0),
        ({"a": 0.0, "b": 1.0}, ["a"], 2.0, 1.0),
        ({"a": 0.7, "b": 0.3}, ["b", "other"], 0.98, 0.7),
        ({"a": 0.7, "b": 0.3}, ["c"], None, "not_a_label"),
        ({"a": 0.7, "b": 0.3}, ["a", "b"], None, "several_labels"),
        ({"a": None, "b": None}, ["a"], None, "no_probabilities"),
        (None, ["a"], None, "no_probabilities"),
        ("text", ["a"], None, "no_probabilities"),
        ([1, 2], ["a"], None, "no_probabilities"),
    ],
)
def test_a_row(
    make: MakeMetrics, shares: Any, references: list[str], brier: float | None, error: Any
) -> None:
    one, other = make("calibration")
    scores: list[Any] = [m.score(answer(shares, *references)) for m in (one, other)]  # type: ignore[union-attr]  # row metrics
    if brier is None:
        assert [(s.value, s.status, s.rule) for s in scores] == [(None, "unparsed", error)] * 2
    else:
        assert [s.value for s in scores] == pytest.approx([brier, error])


def test_the_error_of_a_set_is_that_of_its_bins(make: MakeMetrics) -> None:
    metric: Any = make("calibration", bins=2)[1]
    rows = [
        answer(
            {"a": 0.4, "b": 0.3, "c": 0.3}, "a"
        ),  # the lower bin: 1 of 2 hits, mean confidence 0.4
        answer({"a": 0.3, "b": 0.4, "c": 0.3}, "a"),
        answer({"a": 0.9, "b": 0.1}, "a"),  # the upper bin: 2 of 3 hits, mean confidence 0.9
        answer({"a": 0.8, "b": 0.2}, "b"),
        answer({"a": 1.0, "b": 0.0}, "a"),
    ]
    stats = np.array([metric.row_stats(row) for row in rows])
    assert stats.shape == (5, len(metric.stats))
    expected = 2 / 5 * abs(0.5 - 0.4) + 3 / 5 * abs(2 / 3 - 0.9)
    assert float(metric.finalize(stats.sum(axis=0))) == pytest.approx(expected)
    assert math.isnan(metric.finalize(np.zeros(len(metric.stats))))


def test_names_units_and_ranges(make: MakeMetrics) -> None:
    brier, error = (metric.spec for metric in make("calibration", name="sure"))
    assert (brier.name, brier.unit, brier.value_range.most) == ("sure_brier", "score", 2.0)  # type: ignore[union-attr]  # it has one
    assert (error.name, error.unit, error.higher_is_better) == ("sure_ece", "fraction", False)
