"""Exact and normalised match."""

import pytest

from tests.metrics.conftest import ScoreOf


@pytest.mark.parametrize(
    ("response", "reference", "exact", "normalized"),
    [
        ("Paris", "Paris", 1, 1),
        (" Paris\n", "Paris", 1, 1),
        ("paris.", "Paris", 0, 1),
        ("The  Well-Known!", "the well known", 0, 1),
        ("don't", "dont", 0, 1),
        ("Ｐａｒｉｓ１２", "paris12", 0, 1),
        ("北京，上海。", "北京 上海", 0, 1),
        ("北京", "南京", 0, 0),
        # Words that SQuAD's normal form joins.
        ("3.5", "35", 0, 0),
        ("-5", "5", 0, 0),
        ("C++", "C", 0, 0),
        ("50%", "50", 0, 0),
        ("a dog", "dog", 0, 0),
        ("ﬁne", "FINE", 0, 1),
        ("Straße", "STRASSE", 0, 1),
    ],
)
def test_match(score: ScoreOf, response: str, reference: str, exact: int, normalized: int) -> None:
    assert score("exact", response, reference).value == exact
    assert score("normalized_match", response, reference).value == normalized


def test_articles_can_be_dropped(score: ScoreOf) -> None:
    found = score("normalized_match", "The dog", "a dog", articles="drop")
    assert (found.value, found.answer) == (1.0, "dog")


def test_any_reference_may_match(score: ScoreOf) -> None:
    assert score("exact", "b", "a", "b").value == 1.0


@pytest.mark.parametrize("kind", ["exact", "normalized_match"])
def test_a_missing_value_has_a_reason(score: ScoreOf, kind: str) -> None:
    assert (score(kind, None, "a").value, score(kind, None, "a").status) == (None, "skipped")
    assert (score(kind, "a").value, score(kind, "a").status) == (None, "no_reference")
    assert (score(kind, " ", "a").value, score(kind, " ", "a").status) == (0.0, "empty")
