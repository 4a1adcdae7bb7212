"""Votes as scores: the metric `human` beside the other ones, in gates and comparisons, and agreement as a condition."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from batchgen.cli import cli
from batchgen.errors import UsageError
from batchgen.evaluation.comparing.compare import compare
from batchgen.evaluation.scoring.score import score
from batchgen.feedback.votes_file import append_votes
from batchgen.inspection.verify import verify
from batchgen.output.published_run import PublishedRun
from batchgen.output.score_tables import read_metrics
from tests.feedback.conftest import ROWS, MakeRun, Voter
from tests.feedback.conftest import made_runs as made_runs
from tests.feedback.conftest import make_run as make_run

SCORES = {0: (5, 4), 1: (1, 2), 2: (4,), 3: (2,), 4: (5, 5), 5: (1,)}
"""Ratings of the first six rows."""


def rate(run: PublishedRun) -> None:
    vote = Voter(run)
    append_votes(
        run.folder,
        [
            vote(f"r{row}", "rating", value=value, reviewer=f"reviewer {n}")
            for row, values in SCORES.items()
            for n, value in enumerate(values)
        ],
    )


def frame(run: PublishedRun) -> pl.DataFrame:
    return PublishedRun(run.folder).frame()


def metric(run: PublishedRun, name: str) -> Any:
    (row,) = [r for r in read_metrics(run.folder.metrics) if (r.metric, r.slice) == (name, "all")]
    return row


def test_join_adds_the_mean_and_the_number_of_raters_and_leaves_answers_as_they_are(
    make_run: MakeRun,
) -> None:
    run = make_run(evaluate={"metrics": ["length"]})
    before = frame(run)
    rate(run)
    done = CliRunner().invoke(cli, ["feedback", "join", str(run.folder.path)])
    assert done.exit_code == 0, done.output
    after = frame(run)
    assert after["score_human"].to_list()[:7] == [4.5, 1.5, 4.0, 2.0, 5.0, 1.0, None]
    assert after["score_human_raters"].to_list()[:7] == [2, 2, 1, 1, 2, 1, 0]
    assert after.select(before.columns).equals(before)
    assert verify(run.folder).issues == []
    row = metric(run, "human")
    assert (row.n, row.coverage, row.unit, row.least, row.most) == (6, 0.6, "score", 1.0, 5.0)
    assert row.value == pytest.approx(3.0)


def test_join_again_after_more_votes_counts_them(make_run: MakeRun) -> None:
    run = make_run(evaluate={"metrics": ["human"]})
    assert frame(run)["score_human"].null_count() == 10
    rate(run)
    score(run.folder.path)
    assert frame(run)["score_human"].null_count() == 4
    vote = Voter(run)
    append_votes(run.folder, [vote("r9", "rating", value=3, reviewer="late", vote_id="f" * 32)])
    score(run.folder.path)
    assert frame(run)["score_human"].null_count() == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"votes": "pass"}, [0.5, None, None]),
        ({"votes": "label", "label": "rude"}, [None, 1.0, None]),
        ({"votes": "pair"}, [None, None, 0.25]),
        ({"votes": "rating", "rubric": "tone"}, [2.0, None, None]),
        ({"votes": "rating"}, [3.0, None, None]),
        ({"votes": "pass", "min_raters": 3}, [None, None, None]),
    ],
)
def test_each_kind_of_vote_has_a_score(
    make_run: MakeRun, options: dict[str, Any], expected: list[float | None]
) -> None:
    run = make_run(evaluate={"metrics": [{"type": "human", "name": "people"} | options]})
    other = make_run("other", run={"seed": 7})
    vote = Voter(run)
    votes = [
        vote("r0", "pass", value=True),
        vote("r0", "pass", value=False, reviewer="bob"),
        vote("r1", "label", labels=["rude", "short"]),
        vote.pair("r2", "b", other),
        vote.pair("r2", "tie", other, reviewer="bob"),
        vote("r0", "rating", value=2, rubric="tone"),
        vote("r0", "rating", value=4, rubric="facts"),
        vote("r3", "rating", value=1, response_sha="0" * 64),
        vote("r3", "rating", value=1, run_id="another"),
    ]
    append_votes(run.folder, votes)
    score(run.folder.path)
    assert frame(run)["score_people"].to_list()[:4] == [*expected, None]


def test_human_scores_are_compared_like_others(make_run: MakeRun) -> None:
    evaluate = {"metrics": ["human"]}
    runs = [make_run("a", evaluate=evaluate), make_run("b", evaluate=evaluate, run={"seed": 7})]
    for run, value in zip(runs, (2, 4), strict=True):
        vote = Voter(run)
        votes = [vote(str(row["id"]), "rating", value=value + n % 2) for n, row in enumerate(ROWS)]
        append_votes(run.folder, votes)
        score(run.folder.path)
    (human,) = compare(runs[0].folder.path, runs[1].folder.path).metrics
    assert human.difference is not None
    assert human.difference.value == pytest.approx(2.0)


GATE = {"metric": "exact", "min": 0.1, "min_agreement": 0.6}


@pytest.mark.parametrize(
    ("right", "verdict", "words"),
    [
        ({0, 2, 4}, "passed", "value"),
        ({1, 3, 5}, "undecided", "exact does not count: its agreement with people is -"),
    ],
)
def test_a_gate_counts_a_metric_only_if_it_agrees_with_people(
    make_run: MakeRun, right: set[int], verdict: str, words: str
) -> None:
    rows = [row | {"gold": row["q"] if n in right else "?"} for n, row in enumerate(ROWS)]
    evaluate = {"reference": "gold", "metrics": ["exact", "human"], "gates": [GATE]}
    run = make_run(rows=rows, evaluate=evaluate)
    (gate,) = run.manifest.evaluation["gates"]
    assert gate["verdict"] == "undecided"
    assert "agreement of exact with people is not known: 0 answers" in gate["found"]
    rate(run)
    (decided,) = score(run.folder.path).gates
    assert decided.verdict == verdict
    assert words in decided.found
    assert decided.gate.endswith("agreement >= 0.6")


def test_agreement_may_come_from_a_reviewed_run_with_the_same_metric(
    make_run: MakeRun,
) -> None:
    rows = [row | {"gold": row["q"] if n % 2 == 0 else "?"} for n, row in enumerate(ROWS)]
    evaluate: dict[str, Any] = {"reference": "gold", "metrics": ["exact", "human"]}
    reviewed = make_run("reviewed", rows=rows, evaluate=evaluate)
    rate(reviewed)
    score(reviewed.folder.path)
    gate = GATE | {"agreement_run": "reviewed"}
    night = evaluate | {"metrics": ["exact"], "gates": [gate]}
    run = make_run("night", rows=rows, evaluate=night, run={"seed": 7})
    assert run.manifest.evaluation["gates"][0]["verdict"] == "passed"
    other = night | {"metrics": [{"type": "exact", "where": "lang = 'en'"}]}
    changed = make_run("changed", rows=rows, evaluate=other, run={"seed": 8})
    found = changed.manifest.evaluation["gates"][0]
    assert found["verdict"] == "undecided"
    assert "its settings differ" in found["found"]


def test_a_gate_on_agreement_without_votes_is_an_error_of_the_job(make_run: MakeRun) -> None:
    gate = {"metric": "length_characters", "min": 1, "min_agreement": 0.6}
    with pytest.raises(Exception, match="min_agreement needs the votes of people"):
        make_run(evaluate={"metrics": ["length"], "gates": [gate]})


def test_a_file_has_no_votes(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"response": "a"}\n')
    with pytest.raises(UsageError, match="human: a file has no votes"):
        score(file, ["human"], output=tmp_path / "scores")


def test_a_comparison_leaves_out_the_number_of_raters_unless_it_is_named(make_run: MakeRun) -> None:
    runs = [make_run(name, evaluate={"metrics": ["length", "human"]}) for name in ("out", "new")]
    for run in runs:
        rate(run)
        score(run.folder.path)
    paths = [run.folder.path for run in runs]
    assert [one.metric for one in compare(*paths).metrics] == ["length_characters", "human"]
    named = compare(*paths, metrics=["human_raters"])
    assert [one.metric for one in named.metrics] == ["human_raters"]
