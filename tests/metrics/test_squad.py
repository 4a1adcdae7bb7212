"""SQuAD's own metrics against values of the published evaluation (torchmetrics 1.9) and the collected cases."""

import json
from pathlib import Path

import pytest

from batchgen.metrics.base import Answer
from batchgen.metrics.squad import squad_form
from tests.metrics.conftest import MakeMetrics, ScoreOf

CASES = Path(__file__).parents[3] / "shared" / "cases" / "evaluation" / "squad.jsonl"

# response, references, exact match, F1
VALUES: list[tuple[str, tuple[str, ...], float, float]] = [
    ("The U.S.", ("US",), 1.0, 1.0),
    ("10,000", ("10000",), 1.0, 1.0),
    ("$5", ("5",), 1.0, 1.0),
    ("50%", ("50",), 1.0, 1.0),
    ("well-known", ("well known",), 0.0, 0.0),
    ("well-known", ("well known", "Well-Known!"), 1.0, 1.0),
    ("the", ("a",), 1.0, 1.0),
    ("don't", ("dont",), 1.0, 1.0),
    ("a theory", ("theory",), 1.0, 1.0),
    ("the cat sat", ("a cat sat down",), 0.0, 0.8),
    ("cat cat cat", ("cat",), 0.0, 0.5),
    ("It is Mars", ("Mars",), 0.0, 0.5),
    ("x", ("y", "x z", "w"), 0.0, 2 / 3),
    ("“x”", ("x",), 0.0, 0.0),  # only ASCII punctuation is deleted
    ("北京", ("北京市",), 0.0, 0.0),  # one token
    ("北京。", ("北京",), 0.0, 0.0),
    ("a\u00a0b", ("b",), 1.0, 1.0),
    ("", ("x",), 0.0, 0.0),
]


@pytest.mark.parametrize(("response", "references", "exact", "f1"), VALUES)
def test_values_are_those_of_the_published_script(
    score: ScoreOf, response: str, references: tuple[str, ...], exact: float, f1: float
) -> None:
    found = score("squad_em", response, *references), score("squad_f1", response, *references)
    assert [one.value for one in found] == pytest.approx([exact, f1])
    assert {one.status for one in found} == {"ok" if response else "empty"}
    assert found[0].answer == squad_form(response)


@pytest.mark.parametrize("kind", ["squad_em", "squad_f1"])
def test_an_unanswerable_question_needs_an_empty_response(make: MakeMetrics, kind: str) -> None:
    (metric,) = make(kind)
    rows = [
        (Answer("a", 0, "", unanswerable=True), 1.0, "empty"),
        (Answer("a", 0, "the", unanswerable=True), 1.0, "ok"),
        (Answer("a", 0, "Paris", unanswerable=True), 0.0, "ok"),
        (Answer("a", 0, "Paris"), None, "no_reference"),
        (Answer("a", 0, "Paris", readable=False), None, "unparsed"),
    ]
    for answer, value, status in rows:
        found = metric.score(answer)  # type: ignore[union-attr] # a row metric
        assert (found.value, found.status) == (value, status)


@pytest.mark.skipif(not CASES.exists(), reason="the collected cases are not here")
def test_collected_cases(score: ScoreOf) -> None:
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    found = [score("squad_em", row["response"], row["reference"]).value for row in rows]
    assert found == [float(row["squad_em"]) for row in rows]
    ours = [score("normalized_match", row["response"], row["reference"]).value for row in rows]
    assert ours == [float(row["ours_em"]) for row in rows]
