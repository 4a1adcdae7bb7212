"""The answers in `jobs/education/questions.csv` are correct: computable ones are computed again."""

import csv
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

FILE = Path(__file__).parent.parent / "jobs" / "education" / "questions.csv"

Question = dict[str, str]
Oracle = Callable[[], float | Fraction]

ARITHMETIC: dict[str, Oracle] = {
    "Q001": lambda: 7 * 12,
    "Q002": lambda: 48 / 6,
    "Q004": lambda: 1005 - 687,
    "Q005": lambda: 2 * (15 + 8),
    "Q007": lambda: (13 * 60 + 5) - (9 * 60 + 40),
    "Q008": lambda: 120 * Fraction(2, 3) - 5,
    "Q011": lambda: Fraction(3, 4) * 260,
    "Q012": lambda: Fraction("2.5") * Fraction("3.2") + Fraction("7.5") * Fraction("3.2"),
    "Q013": lambda: 80 * Fraction(85, 100),
    "Q016": lambda: Fraction(360, 72),
    "Q017": lambda: 5 * 14 - (9 + 12 + 15 + 20),
    "Q020": lambda: Fraction(27 + 8, 5),
    "Q021": lambda: Fraction(25 - 4, 3),
    "Q023": lambda: -12 + 5 * (-3),
    "Q024": lambda: (-2) ** 3 + Fraction(15, -5),
    "Q027": lambda: 9 * (36 - 10) - 28 * 2,
    "Q029": lambda: math.hypot(5, 12),
    "Q030": lambda: 2 * (9 + Fraction(54, 9)),
    "Q031": lambda: 100,
    "Q035": lambda: (6 - 2) * 180,
    "Q036": lambda: Fraction(3, 3 + 2),
    "Q037": lambda: max(x for x in range(-30, 31) if x * x - 9 * x + 20 == 0),
    "Q039": lambda: 4 + (20 - 1) * 3,
    "Q040": lambda: 1200 * Fraction(105, 100) ** 2,
    "Q041": lambda: 18 / Fraction(45, 60),
    "Q042": lambda: Fraction(54, 20),
    "Q046": lambda: (4 * 42 + 3 * 40 - 8) * (15 - 3),
    "Q047": lambda: math.ceil((280 + 14) / 50) * 800,
    "Q049": lambda: math.ceil(1789 / 100),
    "Q050": lambda: math.log2(64),
    "Q051": lambda: 1 - Fraction("0.36"),
    "Q052": lambda: (12 + 9) % 24,
}
"""The correct number for the column `answer`, computed again from the question."""


def questions() -> list[Question]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_every_numeric_answer_is_checked() -> None:
    assert {q["qid"] for q in questions() if q["kind"] == "number"} == set(ARITHMETIC)


@pytest.mark.parametrize("qid", ARITHMETIC)
def test_the_numeric_answer_is_correct(qid: str) -> None:
    (question,) = (q for q in questions() if q["qid"] == qid)
    assert Fraction(question["answer"]) == Fraction(ARITHMETIC[qid]())


def choices() -> Iterator[tuple[Question, dict[str, str]]]:
    for question in questions():
        if question["kind"] == "choice":
            lines = question["choices"].split("\n")
            yield question, {line[0]: line[3:] for line in lines}


def test_choices_are_four_distinct_texts_and_the_answer_is_one_letter() -> None:
    letters = []
    for question, texts in choices():
        assert list(texts) == ["A", "B", "C", "D"]
        assert len(set(texts.values())) == 4
        letters.append(question["answer"])
    # No letter is so common that a constant answer would score well.
    assert set(letters) == {"A", "B", "C", "D"}
    assert max(map(letters.count, letters)) <= len(letters) / 2


def test_computable_choices_are_correct() -> None:
    right = {q["qid"]: texts[q["answer"]] for q, texts in choices()}
    assert right["Q025"] == f"{6 * 50_000 // 100_000} km"
    assert right["Q032"] == f"({Fraction(6, 2)}, 0)"


def test_only_choice_questions_have_choices() -> None:
    assert {q["kind"] for q in questions() if q["choices"]} == {"choice"}
    assert {q["kind"] for q in questions()} == {"choice", "number", "short"}
