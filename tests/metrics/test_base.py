"""What all metrics share: an answer without content counts as 0 with a reason; an unscored row has no value."""

import pytest

from batchgen.metrics.base import Answer, Spec, no_answer_found, stored_form, unscored
from batchgen.records import Score

SPEC = Spec("gsm", "number", 1, "fraction", higher_is_better=True)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer("a", 0, "no idea"), "no_answer"),
        (Answer("a", 0, "so the ans", finish_reason="length"), "truncated"),
        (Answer("a", 0, " \n\u3000"), "empty"),
        (Answer("a", 0, "", finish_reason="length"), "empty"),
    ],
)
def test_an_empty_answer_is_wrong_with_a_reason(answer: Answer, status: str) -> None:
    found = no_answer_found(SPEC, answer)
    assert (found.value, found.status, found.metric) == (0.0, status, "gsm")


def test_an_unscored_row_has_no_value() -> None:
    assert unscored(SPEC, "no_reference") == Score("gsm", None, "no_reference", None, None)


def test_long_answers_are_truncated_and_stay_distinct() -> None:
    left, right = stored_form("a" * 100_000 + "b"), stored_form("a" * 100_000 + "c")
    assert left != right
    assert max(len(left), len(right)) < 220
    assert stored_form("18") == "18"
