"""Lengths in all units."""

import pytest

from tests.metrics.conftest import ScoreOf


@pytest.mark.parametrize(
    ("text", "characters", "words", "sentences"),
    [
        ("", 0, 0, 0),
        (" Hello, world. ", 13, 2, 1),
        ("It's 3.14. Really? Yes!", 23, 4, 3),
        ("a well-known fact", 17, 3, 1),
        ("今天天气很好，我们去公园吧。好！", 16, 13, 2),
        ("我用 GPT-4 写了3个故事", 15, 9, 1),
        ("one\n\ntwo", 8, 2, 2),
        ("Привет, мир!", 12, 2, 1),
        ("😀😀", 2, 0, 0),
        ('He said "Go." Then he left.', 27, 6, 2),
    ],
)
def test_length(score: ScoreOf, text: str, characters: int, words: int, sentences: int) -> None:
    expected = {"characters": characters, "words": words, "sentences": sentences}
    found = {unit: score("length", text, units=[unit]).value for unit in expected}
    assert found == expected


def test_tokens_are_those_of_the_model(score: ScoreOf) -> None:
    assert score("length", "x", units=["tokens"], at={"output_tokens": 7}).value == 7.0
    assert score("length", "x", units=["tokens"]).status == "skipped"
