"""The letter that a response chooses; published extractors fail on most cases below."""

import pytest

from batchgen.metrics.base import Answer, score_answer
from batchgen.metrics.references import read_references
from tests.metrics.conftest import MakeMetrics, ScoreOf

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
        ("A is wrong. B is correct.", "B", "verdict"),
        ("The answer is A because dogs bark", "A", "cue"),
        ("答案：B", "B", "cue"),
        ("答案是（Ｂ）", "B", "cue"),
        ("正确答案应该是 C。", "C", "cue"),
        ("故选B。", "B", "cue"),
        ("因此选择 D", "D", "cue"),
        ("A项错误，B项正确", "B", "verdict"),
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


ROWS: list[tuple[object, object, str, str | None]] = [
    # options, reference, response, and the label that the reference names
    (["10", "20", "30", "40"], 2, "C", "C"),  # MMLU: the reference is the option's number
    (["2", "3", "0", "1"], 1, "B", "B"),
    (
        ["He runs", "He sleeps", "He sings", "He eats"],
        "3",
        "D",
        "D",
    ),  # HellaSwag: the number is text
    (
        {"text": ["ice", "fire", "wood"], "label": ["1", "2", "3"]},
        "2",
        "The answer is 2.",
        "2",
    ),  # ARC
    ({"text": ["ice", "fire"], "label": ["A", "B"]}, "B", "fire", "B"),
    ([f"option {n}" for n in range(10)], "J", "The answer is J.", "J"),  # MMLU-Pro
    (["a", "b", None, None], "B", "B", "B"),
    (["7", "0", "1", "3"], "1", "B", None),  # the text of the third, the number of the second
    ({"A": {"x": 1}}, "A", "A", None),
    ("A) ice B) fire", "A", "A", None),
]


@pytest.mark.parametrize(("options", "reference", "response", "right"), ROWS)
def test_a_reference_names_an_option_in_each_published_form(
    score: ScoreOf, options: object, reference: object, response: str, right: str | None
) -> None:
    read = read_references([reference])
    at = {"fields": {"o": options}, "integer_references": read.integers}
    found = score("choice", response, *read.texts, options="o", at=at)
    expected = ("unparsed", None) if right is None else ("ok", 1.0)
    assert (found.status, found.value) == expected
    assert right is None or found.answer == right


@pytest.mark.parametrize(
    ("text", "value", "f1", "answer"),
    [
        ("ABD", 1, 1, "A, B, D"),
        ("A, B, D", 1, 1, "A, B, D"),
        ("D, B and A", 1, 1, "A, B, D"),
        ("A B D", 1, 1, "A, B, D"),
        ("(A)(B)(D)", 1, 1, "A, B, D"),
        ("A、B、D", 1, 1, "A, B, D"),
        ("答案：ABD", 1, 1, "A, B, D"),
        ("答案是A、B和D。", 1, 1, "A, B, D"),
        ("故选ABD", 1, 1, "A, B, D"),
        ("The correct answers are A, B, and D.", 1, 1, "A, B, D"),
        ("The answers are A, B and D because C is in the north.", 1, 1, "A, B, D"),
        (r"\boxed{A, B, D}", 1, 1, "A, B, D"),
        ("<answer>ABD</answer>", 1, 1, "A, B, D"),
        ('{"answer": ["A", "B", "D"]}', 1, 1, "A, B, D"),
        ("A is correct. B is correct. C is wrong. D is correct.", 1, 1, "A, B, D"),
        ("A对，B对，C错，D对", 1, 1, "A, B, D"),
        ("A, B and D are correct.", 1, 1, "A, B, D"),
        ("The answer is A and B, C is wrong.", 0, 0.8, "A, B"),
        ("正确的有A、B、D。", 1, 1, "A, B, D"),
        ("**A, B, D**\n\nbecause all three are cities", 1, 1, "A, B, D"),
        ("- A\n- B\n- D", 1, 1, "A, B, D"),
        ("AB", 0, 0.8, "A, B"),
        ("ABCD", 0, 6 / 7, "A, B, C, D"),
        ("C", 0, 0, "C"),
        ("All of them are cities.", 0, 0, None),
        ("A dog, a cat", 0, 0, None),
    ],
)
@pytest.mark.parametrize(
    "reference", [("ABD",), ("A, B, D",), ('["A", "B", "D"]',), ("A", "B", "D")]
)
def test_several_labels_may_be_right(
    make: MakeMetrics, text: str, value: float, f1: float, answer: str | None, reference: tuple[str]
) -> None:
    exact, partial = (
        score_answer(metric, Answer("a", 0, text, reference))  # type: ignore[arg-type] # row metrics
        for metric in make("choice", multiple=True)
    )
    assert (exact.metric, partial.metric) == ("choice", "choice_f1")
    assert (exact.value, exact.answer) == (value, answer)
    assert partial.value == pytest.approx(f1)


def test_any_of_several_sets_is_accepted(make: MakeMetrics) -> None:
    exact, _ = make("choice", multiple=True)
    answer = Answer("a", 0, "BC", ("AB", "BC"))
    assert score_answer(exact, answer).value == 1.0  # type: ignore[arg-type] # a row metric
