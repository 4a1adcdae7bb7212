"""Which answers are reviewed, and in which order."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.errors import UsageError
from batchgen.review.queue.review_setup import ReviewSetup
from batchgen.review.queue.uncertainty import add_uncertainty
from tests.review.conftest import QUESTIONS, prepared

MakeRun = Callable[..., Path]


def ids(setup: ReviewSetup) -> list[str]:
    return [item.id for item in setup.items]


def test_all_answers_at_random_the_same_for_a_seed(answered: MakeRun) -> None:
    folder = answered()
    drawn = [ids(prepared(folder, order="random", seed=seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert sorted(drawn[0]) == sorted(drawn[2]) == [f"r{n}" for n in range(10)]
    assert ids(prepared(folder)) == [f"r{n}" for n in range(10)]
    assert ids(prepared(folder, order="random", sample=3)) == drawn[0][:3]


def test_a_condition_and_groups_in_turn(answered: MakeRun) -> None:
    lang = ["en"] * 7 + ["zh"] * 3
    folder = answered(columns={"lang": lang})
    assert ids(prepared(folder, where="score_exact = 0 AND lang = 'en'")) == [
        "r0",
        "r2",
        "r4",
        "r6",
    ]
    in_turn = ids(prepared(folder, by="lang", sample=6))
    assert in_turn == ["r0", "r7", "r1", "r8", "r2", "r9"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"where": "length(id) > 9"}, "has no answer that fulfils --where"),
        ({"where": "nothing = 1"}, "--where: 'nothing = 1': column 'nothing' is not in the output"),
        ({"by": "nothing"}, "--by: .* has no column 'nothing'"),
        ({"labels": list("abcdefghij")}, "10 labels; expected at most 9"),
        ({"labels": ["a", "a"]}, "a label is given twice"),
        ({"rubric": Path("missing.txt")}, "--rubric: missing.txt is not a file"),
    ],
)
def test_options_that_do_not_fit(answered: MakeRun, options: dict[str, Any], problem: str) -> None:
    folder = answered(prompts=QUESTIONS[:2])
    with pytest.raises(UsageError, match=problem):
        prepared(folder, **options)


def test_rows_without_an_answer_are_left_out(answered: MakeRun) -> None:
    folder = answered(prompts=["one", "", "two"], input={"on_empty_prompt": "skip"})
    setup = prepared(folder)
    assert ids(setup) == ["r0", "r2"]
    assert setup.queue.unanswered == 1


def test_pairs_are_different_answers_to_the_same_prompt(answered: MakeRun) -> None:
    base = answered("base", ["same", "a longer text", "changed", "another long text"])
    new = answered("new", ["same", "a longer text", "Changed", "another long text"], tokens=6)
    setup = prepared(base, new)
    assert ids(setup) == ["r1", "r3"]
    assert (setup.queue.equal, setup.queue.changed_prompts) == (1, 1)
    one = setup.items[0]
    assert one.other is not None
    assert (one.answer.shown["text"], one.other.shown["text"]) == ("a longer text", "a lon")
    with pytest.raises(UsageError, match="are the same run"):
        prepared(base, base)
    same = answered("same", ["same"])
    with pytest.raises(
        UsageError, match="no different answers to the same prompt: 1 answers are equal"
    ):
        prepared(base, same)


def test_a_run_without_scores(answered: MakeRun) -> None:
    setup = prepared(answered(prompts=["one"], evaluate={}))
    assert setup.items[0].answer.shown["scores"] == {}
    assert setup.config()["metrics"] == []


def test_the_input_is_shown_where_the_prompt_is_not_stored(answered: MakeRun) -> None:
    folder = answered(prompts=["one"])
    hidden = answered("hidden", prompts=["two"], evaluate={})
    assert prepared(folder).items[0].shown["columns"] == {}
    assert prepared(hidden).items[0].shown["prompt"][0]["content"] == "two"


def test_near_a_gate_first(answered: MakeRun) -> None:
    """Lengths 1 to 10 and a gate at 7: the answer of 7 characters is the most uncertain, then its neighbours."""
    evaluate = {"metrics": ["length"], "gates": [{"metric": "length_characters", "min": 7}]}
    folder = answered(prompts=["x" * n for n in range(1, 101)], evaluate=evaluate)
    setup = prepared(folder, order="uncertain", sample=3)
    assert ids(setup)[0] == "r6"
    assert setup.items[0].shown["reasons"] == ["near"]
    assert set(ids(setup)[1:]) == {"r5", "r7"}


def test_flips_and_disagreements(answered: MakeRun) -> None:
    """The metric `j` as a judge: it disagrees with `own` about r2, and flips there."""
    metrics = [
        {"type": "exact", "name": "j"},
        {"type": "regex", "name": "own", "pattern": "[13]"},
        {"type": "regex", "name": "j_position_flip", "pattern": "2"},
    ]
    folder = answered(
        prompts=["0", "1", "1 2", "3"], evaluate={"metrics": metrics, "reference": "gold"}
    )
    run = prepared(folder).run
    scored = replace(run.scored, facts={**run.scored.facts, "evaluate": {"judges": {"j": {}}}})
    rows = pl.DataFrame({"id": ["r0", "r1", "r2", "r3"], "sample": [0] * 4}).with_columns(
        pl.col("sample").cast(pl.Int32), pl.lit([], pl.List(pl.String)).alias("reasons")
    )
    # r0: j 0, own 0. r1: j 1, own 1. r2: j 0, own 1, flipped. r3: j 1, own 1.
    found = add_uncertainty(replace(run, scored=scored), rows)
    assert found["uncertainty"].to_list() == [0.0, 0.0, 2.0, 0.0]
    assert found["reasons"].to_list() == [[], [], ["flip", "disagree"], []]
    without = add_uncertainty(run, rows)
    assert without["uncertainty"].to_list() == [0.0] * 4
