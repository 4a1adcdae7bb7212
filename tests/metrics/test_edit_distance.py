"""Edit distance and character error rate."""

from typing import Any

import numpy as np
import pytest

from batchgen.metrics.base import Answer
from tests.metrics.conftest import MakeMetrics, ScoreOf


@pytest.mark.parametrize(
    ("response", "reference", "distance"),
    [
        ("kitten", "sitting", 3),  # Levenshtein's textbook pair
        ("今天天气好", "今天天汽很好", 2),
        ("１２３", "123", 0),
        ("a\n b", "a b", 0),
        ("", "abc", 3),
        ("Abc", "abc", 1),
    ],
)
def test_edit_distance(score: ScoreOf, response: str, reference: str, distance: int) -> None:
    assert score("edit_distance", response, reference).value == distance
    assert score("cer", response, reference).value == pytest.approx(distance / len(reference))


def test_the_nearest_reference_is_used(score: ScoreOf) -> None:
    assert score("edit_distance", "abc", "xyz", "abd").value == 1.0
    assert score("cer", "abc", "xyz", "abd").value == pytest.approx(1 / 3)


def test_an_empty_reference_has_no_rate(score: ScoreOf) -> None:
    assert score("cer", "abc", "").status == "unparsed"


def test_the_rate_of_a_corpus_weights_rows_by_length(make: MakeMetrics) -> None:
    cer: Any
    (cer,) = make("cer")
    rows = [("a", "b"), ("abcdefghi", "abcdefghi")]
    stats = [cer.row_stats(Answer("", 0, text, (ref,))) for text, ref in rows]
    assert cer.finalize(np.sum(stats, axis=0)) == pytest.approx(
        1 / 10
    )  # the mean of rows would be 1/2
