"""Texts and patterns in responses."""

import time

import pytest
from pydantic import ValidationError

from tests.metrics.conftest import MakeMetrics, ScoreOf


@pytest.mark.parametrize(
    ("response", "texts", "mode", "right"),
    [
        ("I know Paris.", ["paris", "rome"], "any", 1),
        ("I know Paris.", ["paris", "rome"], "all", 0),
        ("Rome\n and  PARIS", ["paris", "rome"], "all", 1),
        ("I know", ["no"], "any", 0),
        ("It is 180.", ["18"], "any", 0),
        ("It is 18kg", ["18"], "any", 0),
        ("to be", ["to  be"], "any", 1),
        ("本回答仅供参考。", ["仅供参考"], "any", 1),
        ("共１８个", ["18"], "any", 1),
        ("用GPT写", ["gpt"], "any", 1),
        ("nothing here", ["paris"], "none", 1),
        ("Paris", ["paris"], "none", 0),
    ],
)
def test_contains(score: ScoreOf, response: str, texts: list[str], mode: str, right: int) -> None:
    assert score("contains", response, texts=texts, mode=mode).value == right


def test_parts_of_words_match_on_request(score: ScoreOf) -> None:
    assert score("contains", "I know", texts=["no"], whole_words=False).value == 1.0


def test_without_texts_the_references_are_searched(score: ScoreOf) -> None:
    found = score("contains", "It is Rome.", "Paris", "Rome")
    assert (found.value, found.answer) == (1.0, "Rome")
    assert score("contains", "It is Rome.").status == "no_reference"
    assert score("contains", "It is 18.", "18", "18.0", mode="all").value == 1.0
    assert score("contains", "It is 18.", "18", "19", mode="all").value == 0.0


@pytest.mark.parametrize(
    ("pattern", "expect", "value", "answer"),
    [
        (r"仅供参考|not medical advice", "match", 1.0, "仅供参考"),
        (r"\d{11}", "match", 0.0, None),
        (r"\d{11}", "no_match", 1.0, None),
        (r"(?i)ADVICE", "match", 0.0, None),
    ],
)
def test_regex(score: ScoreOf, pattern: str, expect: str, value: float, answer: str | None) -> None:
    found = score("regex", "本回答仅供参考", pattern=pattern, expect=expect)
    assert (found.value, found.answer) == (value, answer)


@pytest.mark.timing
@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*a){20}b", r"^(([a-z])+.)+[A-Z]([a-z])+$"]
)
def test_catastrophic_backtracking_is_stopped(score: ScoreOf, pattern: str) -> None:
    start = time.monotonic()
    found = score("regex", "a" * 5000 + "!", pattern=pattern, timeout=0.1)
    assert time.monotonic() - start < 2
    assert (found.value, found.status, found.rule) in (
        (None, "error", "timeout"),
        (0.0, "ok", None),  # some are decided without search
    )


def test_the_textbook_backtracking_pattern_needs_the_timeout(score: ScoreOf) -> None:
    assert score("regex", "a" * 5000 + "!", pattern=r"(a|aa)+$", timeout=0.1).status == "error"


def test_an_invalid_pattern_is_rejected_when_the_job_is_read(make: MakeMetrics) -> None:
    with pytest.raises(ValidationError, match="is not a regular expression: missing"):
        make("regex", pattern="(a")
