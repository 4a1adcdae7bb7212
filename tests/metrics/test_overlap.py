"""Token F1 and ROUGE against published examples and a plain dynamic programme."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.metrics.base import Answer
from batchgen.metrics.overlap import lcs_length
from tests.metrics.conftest import MakeMetrics, ScoreOf


def rouge(make: MakeMetrics, response: str, *references: str) -> list[float | None]:
    answer = Answer("a", 0, response, references)
    return [metric.score(answer).value for metric in make("rouge")]  # type: ignore[union-attr] # row metrics


@pytest.mark.parametrize(
    ("reference", "response", "expected"),
    [
        # Lin 2004, section 3: both share one bigram; only the order differs.
        pytest.param(
            "police killed the gunman", "police kill the gunman", (3 / 4, 1 / 3, 3 / 4), id="S2"
        ),
        pytest.param(
            "police killed the gunman", "the gunman kill police", (3 / 4, 1 / 3, 2 / 4), id="S3"
        ),
        # The examples of rouge-score's own tests.
        pytest.param("testing one two", "testing", (1 / 2, 0, 1 / 2), id="one of three"),
        pytest.param("testing one two", "testing one", (4 / 5, 2 / 3, 4 / 5), id="two of three"),
        pytest.param("testing one two", "Testing, one? TWO", (1, 1, 1), id="case and marks"),
        # Keeping only [a-z0-9] gives 0 here.
        pytest.param("今天天气很好", "天气很好", (4 / 5, 3 / 4, 4 / 5), id="Chinese"),
        pytest.param("今天 GPT-4 发布", "GPT-4 今天发布", (1, 3 / 5, 4 / 6), id="mixed"),
        pytest.param("สวัสดี", "สวัสดี", (1, 1, 1), id="Thai"),
        pytest.param("١٢ كتاب", "12 كتاب", (1 / 2, 0, 1 / 2), id="Arabic"),
        pytest.param("a a b", "a b b", (2 / 3, 1 / 2, 2 / 3), id="multiset"),
    ],
)
def test_rouge(
    make: MakeMetrics, reference: str, response: str, expected: tuple[float, ...]
) -> None:
    assert rouge(make, response, reference) == pytest.approx(expected)


def test_the_nearest_reference_is_used_for_each_variant(make: MakeMetrics) -> None:
    assert rouge(make, "a b c", "c b a", "a b x") == pytest.approx([1, 1 / 2, 2 / 3])


@pytest.mark.parametrize(
    ("response", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("cat cat cat", "cat", 0.5),  # 1.0 by sets
        ("a b b", "b b c", 2 / 3),
        ("x", "y", 0.0),
        ("答案是北京", "北京", 4 / 7),
    ],
)
def test_token_f1_counts_multisets(
    score: ScoreOf, response: str, reference: str, expected: float
) -> None:
    assert score("token_f1", response, reference).value == pytest.approx(expected)


def test_dropped_articles_are_not_tokens(score: ScoreOf) -> None:
    assert score("token_f1", "the cat", "a cat", articles="drop").value == 1.0


def by_table(left: list[str], right: list[str]) -> int:
    row = [0] * (len(right) + 1)
    for one in left:
        above = row
        row = [0]
        for at, other in enumerate(right):
            row.append(above[at] + 1 if one == other else max(above[at + 1], row[at]))
    return row[-1]


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_the_bitwise_algorithm_finds_the_longest_common_subsequence(
    left: list[str], right: list[str]
) -> None:
    assert lcs_length(left, right) == by_table(left, right)
