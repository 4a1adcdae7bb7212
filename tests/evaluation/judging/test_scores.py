"""From the probabilities of a judge's labels to scores: all numbers were computed by hand."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchgen.evaluation.judging.scores import (
    JudgeResult,
    JudgeState,
    judge_metrics,
    verdict_probabilities,
)
from batchgen.job.judge import Judge
from batchgen.metrics.base import Answer
from batchgen.records import Score

ANSWER = Answer("1", 0, "an answer")
RUBRIC = Judge(name="good", scale=(1, 3))
PAIRWISE = Judge(name="vs", mode="pairwise", column="other")


def logs(*chances: float) -> list[float]:
    return [math.log(chance) if chance else -math.inf for chance in chances]


def scores(
    judge: Judge, judgement: JudgeResult | None, answer: Answer = ANSWER
) -> dict[str, Score]:
    """By the suffix of the metric's name."""
    metrics = judge_metrics(judge, lambda _: judgement, "")
    return {m.spec.name.removeprefix(judge.name): m.score(answer) for m in metrics}


def values(judge: Judge, *chances: float) -> dict[str, float | None]:
    found = scores(judge, JudgeResult("judged", logs(*chances)))
    return {suffix: None if s.value is None else round(s.value, 9) for suffix, s in found.items()}


@pytest.mark.parametrize(
    ("chances", "mean", "mass"),
    [
        pytest.param((0.2, 0.3, 0.5), 2.3, 1.0, id="the whole vocabulary"),
        pytest.param((0.1, 0.2, 0.3), 2.333333333, 0.6, id="some of it"),
        pytest.param((0.0, 0.0, 0.5), 3.0, 0.5, id="just enough"),
        pytest.param((0.1, 0.2, 0.19), None, 0.49, id="the model meant something else"),
        pytest.param((0.0, 0.0, 0.0), None, 0.0, id="no label is possible"),
    ],
)
def test_the_score_of_a_rubric_is_the_mean_verdict(
    chances: tuple[float, ...], mean: float | None, mass: float
) -> None:
    assert values(RUBRIC, *chances) == {"": mean, "_label_mass": mass}


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        # P(A), P(B) where the answer is A; then where it is B.
        pytest.param(
            (0.8, 0.2, 0.3, 0.7),
            {
                "": 1.0,
                "_preference": 0.75,
                "_tie": 0.0,
                "_position_flip": 0.0,
                "_first_position": 0.5,
                "_label_mass": 1.0,
            },
            id="better in both orders",
        ),
        pytest.param(
            (0.3, 0.6, 0.54, 0.06),
            {
                "": 0.0,
                "_preference": 0.216666667,
                "_tie": 0.0,
                "_position_flip": 0.0,
                "_first_position": 0.5,
            }
            | {"_label_mass": 0.6},
            id="worse in both orders",
        ),
        pytest.param(
            (0.9, 0.1, 0.6, 0.4),
            {
                "": 0.5,
                "_preference": 0.65,
                "_tie": 1.0,
                "_position_flip": 1.0,
                "_first_position": 1.0,
                "_label_mass": 1.0,
            },
            id="whoever comes first",
        ),
        pytest.param(
            (0.1, 0.9, 0.3, 0.7),
            {
                "": 0.5,
                "_preference": 0.4,
                "_tie": 1.0,
                "_position_flip": 1.0,
                "_first_position": 0.0,
                "_label_mass": 1.0,
            },
            id="whoever comes second",
        ),
        pytest.param(
            (0.25, 0.25, 0.1, 0.9),
            {
                "": 0.5,
                "_preference": 0.7,
                "_tie": 1.0,
                "_position_flip": 0.0,
                "_first_position": 0.25,
                "_label_mass": 0.5,
            },
            id="undecided in one order",
        ),
        pytest.param(
            (0.8, 0.2, 0.1, 0.2),
            dict.fromkeys(["", "_preference", "_tie", "_position_flip", "_first_position"])
            | {"_label_mass": 0.3},
            id="something else in one order",
        ),
    ],
)
def test_pairs_are_judged_by_both_orders(
    chances: tuple[float, ...], expected: dict[str, float | None]
) -> None:
    assert values(PAIRWISE, *chances) == expected


@pytest.mark.parametrize(
    ("judge", "judgement", "answer", "expected"),
    [
        pytest.param(RUBRIC, JudgeResult("empty"), ANSWER, (1.0, "empty", "empty"), id="empty"),
        pytest.param(PAIRWISE, JudgeResult("empty"), ANSWER, (0.0, "empty", "empty"), id="lost"),
        pytest.param(
            PAIRWISE,
            JudgeResult("empty_baseline"),
            ANSWER,
            (1.0, "empty", "empty_baseline"),
            id="won without a judge",
        ),
        pytest.param(
            PAIRWISE,
            JudgeResult("both_empty"),
            ANSWER,
            (0.5, "empty", "both_empty"),
            id="both empty",
        ),
        pytest.param(
            PAIRWISE,
            JudgeResult("no_baseline"),
            ANSWER,
            (None, "skipped", "no_baseline"),
            id="alone",
        ),
        pytest.param(
            PAIRWISE,
            JudgeResult("unreadable"),
            ANSWER,
            (None, "unparsed", "unreadable"),
            id="an unreadable cell",
        ),
        pytest.param(
            PAIRWISE,
            JudgeResult("different_prompt"),
            ANSWER,
            (None, "skipped", "different_prompt"),
            id="another prompt",
        ),
        pytest.param(
            RUBRIC,
            JudgeResult("failed", code="control_tokens"),
            ANSWER,
            (None, "error", "control_tokens"),
            id="not askable",
        ),
        pytest.param(RUBRIC, None, ANSWER, (None, "skipped", None), id="not to be judged"),
        pytest.param(RUBRIC, None, Answer("1", 0, None), (None, "skipped", None), id="no response"),
    ],
)
def test_answers_that_were_not_judged(
    judge: Judge,
    judgement: JudgeResult | None,
    answer: Answer,
    expected: tuple[float | None, str, str | None],
) -> None:
    found = scores(judge, judgement, answer)
    assert (found[""].value, found[""].status, found[""].rule) == expected
    # There were no queries, so there are no figures about the judge.
    assert all(
        found[name].value is None
        for name in ("_label_mass", "_position_flip", "_first_position")
        if name in found
    )


def test_the_detail_has_all_probabilities_and_whether_texts_were_cut() -> None:
    cut: JudgeState = "cut"
    score = scores(RUBRIC, JudgeResult(cut, logs(0.1, 0.2, 0.5)))[""]
    assert (score.answer, score.rule) == ("3", "cut: 1 0.125, 2 0.250, 3 0.625, mass 0.800")
    pair = scores(PAIRWISE, JudgeResult("judged", logs(0.9, 0.1, 0.25, 0.75)))[""]
    assert pair.answer == "A, B"
    assert pair.rule == "judged: A 0.900, B 0.100, mass 1.000; A 0.250, B 0.750, mass 1.000"


chance = st.floats(0.001, 1.0)


@given(st.tuples(chance, chance, chance, chance))
def test_swapping_the_answers_inverts_every_verdict(
    chances: tuple[float, float, float, float],
) -> None:
    """Swapping the answers swaps the two orders: the text that was shown first is still shown first."""
    answer_first, other_first = chances[:2], chances[2:]
    one = values(PAIRWISE, *_whole(answer_first), *_whole(other_first))
    other = values(PAIRWISE, *_whole(other_first), *_whole(answer_first))
    for suffix in ("", "_preference"):
        assert math.isclose(_number(one[suffix]) + _number(other[suffix]), 1, abs_tol=1e-8)
    for suffix in ("_tie", "_position_flip", "_first_position", "_label_mass"):
        assert one[suffix] == other[suffix]


def _whole(chances: Sequence[float]) -> list[float]:
    return [chance / sum(chances) for chance in chances]


def _number(value: Any) -> float:
    assert isinstance(value, float)
    return value


def test_probabilities_are_a_softmax_even_of_tiny_values() -> None:
    verdict = verdict_probabilities([-1000.0, -1001.0], 2)
    assert verdict.probabilities[0].tolist() == pytest.approx([1 / (1 + math.exp(-1)), 0.268941421])
    assert verdict.mass.tolist() == [0.0]
