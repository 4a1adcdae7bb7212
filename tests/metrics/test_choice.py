"""The letter that a response chooses; published extractors fail on most cases below."""

import pytest

from batchgen.metrics.choice import options_of
from tests.metrics.conftest import ScoreOf

CITIES = {"fields": {"options": ["Paris", "Paris, Texas", "Rome", "a dog"]}}


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("B", "B", "whole"),
        ("(b)", "B", "whole"),
        ("**B.**", "B", "whole"),
        ("Ｂ", "B", "whole"),
        ("「B」。", "B", "whole"),
        ("Option C", "C", "whole"),
        ("选项C", "C", "whole"),
        ("The answer is B.", "B", "cue"),
        ("The answer is (B) because A is wrong", "B", "cue"),
        ("Answer: b", "B", "cue"),
        ("**Answer**: **B**", "B", "cue"),
        ("The correct answer is option D.", "D", "cue"),
        ("The answer to the question is C", "C", "cue"),
        ("First, the answer is A. No: the answer is B.", "B", "cue"),
        ("I would choose C here", "C", "cue"),
        ("A is wrong. B is correct.", "B", "cue"),
        ("The answer is A because dogs bark", "A", "cue"),
        ("答案：B", "B", "cue"),
        ("答案是（Ｂ）", "B", "cue"),
        ("正确答案应该是 C。", "C", "cue"),
        ("故选B。", "B", "cue"),
        ("因此选择 D", "D", "cue"),
        ("A项错误，B项正确", "B", "cue"),
        (r"so \boxed{C}", "C", "boxed"),
        (r"\boxed{\text{D}}", "D", "boxed"),
        ("B. Paris is the capital", "B", "leading"),
        ("(C) Rome", "C", "leading"),
        ("B、因为它在法国", "B", "leading"),
        ("Let me think.\nSo it must be:\n(D)", "D", "trailing"),
        # opencompass#1933: `Let's` is not option L, nor is any other capital within a word.
        ("Let's see. Both are fine.", None, None),
        ("A dog barks.", None, None),
        ("The answer is a dog.", None, None),
        ("The answer is A dog.", None, None),
        ("I think so.", None, None),
        ("The answer is not B.", None, None),
        ("答案不是B", None, None),
        ("B is not correct", None, None),
        ("B不正确", None, None),
        ("A: Paris", None, None),
        ("A. Paris\nB. Rome\nC. Bonn", None, None),
        ("Choose between A and B.", None, None),
        ("E", None, None),
    ],
)
def test_which_letter_is_given(
    score: ScoreOf, text: str, answer: str | None, rule: str | None
) -> None:
    found = score("choice", text, "A", labels=["A", "B", "C", "D"])
    assert (found.answer, found.rule) == (answer, rule)


@pytest.mark.parametrize("text", ["The answer is A or B.", "Answer: A, C", "答案：A和B"])
def test_two_letters_give_no_choice(score: ScoreOf, text: str) -> None:
    found = score("choice", text, "A")
    assert (found.value, found.status, found.answer, found.rule) == (0.0, "no_answer", None, "cue")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Paris", "A"),
        ("It is Rome, of course.", "C"),
        ("Paris, Texas!", "B"),
        ("Paris or Rome", None),
        ("Romeo", None),
    ],
)
def test_the_text_of_an_option_is_accepted(score: ScoreOf, text: str, answer: str | None) -> None:
    assert score("choice", text, "Rome", options="options", at=CITIES).answer == answer


def test_references_are_labels_or_options(score: ScoreOf) -> None:
    assert score("choice", "C", "Rome", options="options", at=CITIES).value == 1.0
    assert score("choice", "C", "(c)").value == 1.0
    assert score("choice", "C", "2").status == "unparsed"


def test_labels_may_be_any_words(score: ScoreOf) -> None:
    assert score("choice", "答案是乙", "乙", labels=["甲", "乙"]).value == 1.0


@pytest.mark.parametrize(
    "cell",
    [
        ["x", "y"],
        '["x", "y"]',
        {"A": "x", "B": "y"},
        {"text": ["x", "y"], "label": ["A", "B"]},
    ],
)
def test_options_have_several_forms(cell: object) -> None:
    assert options_of(cell, "ABCD") == {"A": "x", "B": "y"}


@pytest.mark.parametrize("cell", [None, 3, "no JSON", "[" * 100_000])
def test_other_cells_contain_no_options(cell: object) -> None:
    assert options_of(cell, "ABCD") == {}
