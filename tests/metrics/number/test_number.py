"""The number that is the answer, and its correctness: tables, published scores, and any text."""

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from batchgen.metrics.number.reading import Number, format_number
from batchgen.metrics.number.rules import find_number
from tests.metrics.conftest import ScoreOf


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        # Marked as the answer.
        ("16 - 3 = 13\n#### 13", "13", "hash"),
        ("#### $1,000.00", "1000", "hash"),
        ("#### -5 dollars", "-5", "hash"),
        ("#### 2. Compute the sum\nThe answer is 9.", "9", "cue"),
        (r"so \boxed{18} of 20", "18", "boxed"),
        (r"\boxed{\frac{1}{2}}", "0.5", "boxed"),
        (r"\boxed{x = 5}", "5", "boxed"),
        (r"\boxed{\text{18 dollars}}", "18", "boxed"),
        (r"first \boxed{1}, then \boxed{2}", "2", "boxed"),
        ("The answer is 18. She sells 20.", "18", "cue"),
        ("The answer is: **$18**\nCheck: 9 * 2.", "18", "cue"),
        ("**Answer:** 18\nbecause of 2 ducks", "18", "cue"),
        ("A: 26", "26", "cue"),
        ("The answer is 3 + 4 = 7 apples", "7", "cue"),
        ("The answer is -3 – 5 = -8", "-8", "cue"),
        ("The answer to question 2 is 18", "18", "cue"),
        ("The final answer is x = 5", "5", "cue"),
        ("The answer is that in 7 days she makes 126", "126", "cue"),
        ("The answer is 5 of them, 2 per row", "5", "cue"),
        ("Answer: -3", "-3", "cue"),
        ("Answer: 1. \nAnswer: 2.", "2", "cue"),
        ("答案是18。一共20个。", "18", "cue"),
        ("答案：十八", "18", "cue"),
        ("最终答案为：１８元", "18", "cue"),
        ("答：3个小朋友一共有18个苹果。", "18", "cue"),
        ("答：还剩十八个苹果，够3天。", "3", "cue"),
        ("答案是一个三位数，即128", "128", "cue"),
        ("所以结果等于 3/4", "0.75", "cue"),
        # The last one.
        ("She has 16 and eats 3, so 13 are left.", "13", "last"),
        ("18 are left (see step 2)", "18", "last"),
        ("It takes 18 days.\n2. Check the sum", "18", "last"),
        ("18.", "18", "last"),
        ("共十八个，大家一起吃", "18", "last"),
        ("她有三个苹果", "3", "last"),
        ("We used GPT-4 and got 7", "7", "last"),
        ("to answer 5 questions takes 10 minutes", "10", "last"),
        ("<<16-3=13>>13 eggs", "13", "last"),
        ("a calculation <<2*3=6>>", None, None),
        # No number.
        ("I do not know.", None, None),
        ("我们一起去吧", None, None),
        ("第一，统一思想", None, None),
    ],
)
def test_the_number_that_is_the_answer(text: str, answer: str | None, rule: str | None) -> None:
    found = find_number(text)
    if found is None:
        assert answer is None
        return
    assert isinstance(found.number, Number)
    assert (format_number(found.number), found.rule) == (answer, rule)


@pytest.mark.parametrize("text", ["The answer is 5-6.", "Answer: 5 or 6", "答案是5到6天"])
def test_two_different_numbers_give_no_answer(score: ScoreOf, text: str) -> None:
    found = score("number", text, "6")
    assert (found.value, found.status, found.answer) == (0.0, "no_answer", None)


def test_the_first_number_can_be_selected(score: ScoreOf) -> None:
    text = "#### 7\n\nThe next one:\n#### 9"
    assert score("number", text, "7", pick="first").value == 1.0
    assert score("number", text, "7").value == 0.0


@pytest.mark.parametrize(
    ("response", "reference", "right"),
    [
        ("$1,000", "1000", 1),
        ("0.5", "1/2", 1),
        ("50%", "0.5", 1),
        ("50", "50%", 1),
        ("50%", "50%", 1),
        ("5%", "50%", 0),
        ("-3", "3", 0),
        ("十八", "18", 1),
        ("0.333", "1/3", 0),
        ("It is 18.", "16 + 2 = <<16+2=18>>18\n#### 18", 1),
    ],
)
def test_equal_numbers(score: ScoreOf, response: str, reference: str, right: int) -> None:
    assert score("number", response, reference).value == right


def test_a_tolerance_is_decimal(score: ScoreOf) -> None:
    assert score("number", "0.3", "0.2", tolerance=0.1).value == 1.0
    assert score("number", "0.30001", "0.2", tolerance=0.1).value == 0.0


@pytest.mark.parametrize(
    ("mark", "response", "value", "answer"),
    [
        ("hash", "so 18\n#### 18", 1.0, "18"),
        ("hash", "#### 18\nQuestion: another\n#### 5", 1.0, "18"),
        ("hash", "The answer is 18.", 0.0, None),
        ("boxed", r"#### 5, but \boxed{18}", 1.0, "18"),
        ("boxed", "#### 18", 0.0, None),
        ("any", "The answer is 18.", 1.0, "18"),
    ],
)
def test_a_marked_number_can_be_required(
    score: ScoreOf, mark: str, response: str, value: float, answer: str | None
) -> None:
    found = score("number", response, "The answer is 18.", answer_format=mark, pick="first")
    assert (found.value, found.answer) == (value, answer)
    assert (found.status == "no_answer") == (answer is None)


def test_a_missing_value_has_a_reason(score: ScoreOf) -> None:
    assert score("number", "18", "none").status == "unparsed"
    assert score("number", "none", "18", at={"finish_reason": "length"}).status == "truncated"
    assert score("number", "18").status == "no_reference"
    assert score("number", None, "18").status == "skipped"


def test_scores_agree_with_the_published_ones(score: ScoreOf, shared_data: Path) -> None:
    """800 solutions by four models of GSM8K's authors, scored by the same comparison."""
    lines = (shared_data / "gsm8k_model_solutions_head.jsonl").read_text("utf-8").splitlines()
    agree = []
    for row in map(json.loads, lines):
        for solution in (value for value in row.values() if isinstance(value, dict)):
            found = score("number", solution["solution"], row["ground_truth"])
            agree.append(bool(found.value) == solution["is_correct"])
    assert len(agree) == 800
    assert sum(agree) / len(agree) >= 0.995


def test_references_score_as_correct(score: ScoreOf, shared_data: Path) -> None:
    lines = (shared_data / "gsm8k_test.jsonl").read_text("utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 1319
    for answer in answers:
        found = score("number", answer, answer)
        assert (found.value, found.answer) == (1.0, answer.split("#### ")[1].replace(",", ""))


@given(st.text(alphabet="0123456789.,-/%$^eE{}\\ 百分之一十万点又负A:#答", max_size=60))
def test_any_text_can_be_parsed(text: str) -> None:
    found = find_number(text)
    if found is not None and isinstance(found.number, Number):
        written = format_number(found.number)
        assume(len(written) < 50)  # 1E100 is read, but 100 zeros are not
        again = find_number(written)
        assert again is not None
        assert isinstance(again.number, Number)
        assert again.number.value == found.number.value
