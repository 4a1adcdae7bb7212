"""Several answers to one prompt."""

from collections.abc import Callable, Sequence
from itertools import combinations

import pytest

from batchgen.metrics.base import Answer
from batchgen.records import Score
from tests.metrics.conftest import MakeMetrics


def scores(*given: tuple[float | None, str | None]) -> list[Score]:
    return [Score("gsm", v, "ok" if v is not None else "error", answer) for v, answer in given]


def by_counting(right: Sequence[bool], k: int, rule: Callable[[Sequence[bool]], bool]) -> float:
    draws = list(combinations(right, k))
    return sum(rule(draw) for draw in draws) / len(draws)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("right", [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (1, 0, 1, 1, 0), (1,) * 5])
def test_pass_at_k_is_the_share_of_draws(make: MakeMetrics, right: tuple[int, ...], k: int) -> None:
    given = scores(*((float(r), None) for r in right))
    for kind, rule in (("pass_at_k", any), ("pass_hat_k", all)):
        (metric,) = make(kind, of="gsm", k=[k])
        assert metric.spec.name == f"{kind}_{k}"
        found = metric.score_group([], given).value  # type: ignore[union-attr] # a group metric
        assert found == pytest.approx(by_counting(list(map(bool, right)), k, rule))


def test_a_prompt_with_too_few_scored_samples_is_not_scored(make: MakeMetrics) -> None:
    (metric,) = make("pass_at_k", of="gsm", k=[2])
    found = metric.score_group([], scores((1.0, None), (None, None)))  # type: ignore[union-attr] # a group metric
    assert (found.value, found.status) == (None, "skipped")


@pytest.mark.parametrize(
    ("given", "k", "value", "answer", "rule"),
    [
        ([(0.0, "7"), (1.0, "8"), (1.0, "8")], None, 1.0, "8", "majority"),
        ([(0.0, "7"), (1.0, "8")], None, 0.0, "7", "tie"),
        ([(0.0, None), (0.0, None), (1.0, "8")], None, 1.0, "8", "majority"),
        ([(0.0, "7"), (1.0, "8"), (1.0, "8")], 1, 0.0, "7", "majority"),
        ([(0.0, None)], None, 0.0, None, None),
        ([(None, None)], None, None, None, "no scored sample"),
        ([(1.0, "8")], 2, None, None, "fewer than 2 samples"),
    ],
)
def test_majority(
    make: MakeMetrics,
    given: list[tuple[float | None, str | None]],
    k: int | None,
    value: float | None,
    answer: str | None,
    rule: str | None,
) -> None:
    (metric,) = make("majority_at_k", of="gsm", k=k)
    found = metric.score_group([], scores(*given))  # type: ignore[union-attr] # a group metric
    assert (found.value, found.answer, found.rule) == (value, answer, rule)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["a b", "a b", "a b"], 0.0),
        (["a b", "c d"], 1.0),
        (["今天", "今夜"], 0.5),
        (["a", None, ""], None),
    ],
)
def test_sample_diversity(make: MakeMetrics, texts: list[str | None], value: float | None) -> None:
    (metric,) = make("sample_diversity")
    answers = [Answer("a", at, text) for at, text in enumerate(texts)]
    assert metric.score_group(answers, []).value == value  # type: ignore[union-attr] # a group metric
