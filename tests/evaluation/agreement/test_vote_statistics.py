"""Statistics of votes: agreement equals that of the reference packages on the same numbers, by slice and by metric."""

import json
from pathlib import Path
from typing import Any

import krippendorff
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.metrics import cohen_kappa_score

from batchgen.cli import cli
from batchgen.errors import UsageError
from batchgen.evaluation.agreement.measure_agreement import Agreement
from batchgen.evaluation.agreement.vote_statistics import VoteStatistics, vote_statistics
from batchgen.feedback.votes_file import append_votes
from batchgen.metrics.statistics.agreement import Level
from batchgen.output.published_run import PublishedRun
from tests.feedback.conftest import ROWS, MakeRun, Voter

ANN = [1, 2, 3, 4, 5, 2, 2, 3, 4, 5]
BOB = [1, 2, 3, 4, 4, 1, 3, 3, 5, 5]


def rate(run: PublishedRun) -> None:
    vote = Voter(run)
    votes = [
        vote(str(row["id"]), "rating", value=value, reviewer=name)
        for name, values in (("ann", ANN), ("bob", BOB))
        for row, value in zip(ROWS, values, strict=True)
    ]
    append_votes(run.folder, votes)


def find(
    found: VoteStatistics, between: str, slice_name: str = "all", question: str = "rating"
) -> Agreement:
    (one,) = [
        a
        for a in found.agreements
        if (a.between, a.slice, a.question) == (between, slice_name, question)
    ]
    return one


def alpha(level: Level, *raters: Any) -> float:
    value = krippendorff.alpha(reliability_data=np.array(raters, float), level_of_measurement=level)
    return float(value)


def test_people_agree_as_the_reference_packages_compute_it(make_run: MakeRun) -> None:
    run = make_run()
    rate(run)
    found = vote_statistics(run)
    people = find(found, "people")
    assert (people.units, people.raters, people.kappa) == (10, 2, None)
    for level, estimate in people.alpha.items():
        assert estimate.value == pytest.approx(alpha(level, ANN, BOB))
        assert estimate.low is not None
    two = find(found, "ann and bob")
    assert two.kappa is not None
    assert two.weighted_kappa is not None
    assert two.kappa.value == pytest.approx(cohen_kappa_score(ANN, BOB))
    weighted = cohen_kappa_score(ANN, BOB, weights="quadratic")
    assert two.weighted_kappa.value == pytest.approx(weighted)


def test_agreement_by_slice_is_that_of_its_rows(make_run: MakeRun) -> None:
    run = make_run()
    rate(run)
    found = vote_statistics(run, by=["lang"])
    chosen = [n for n, row in enumerate(ROWS) if row["lang"] == "zh"]
    expected = alpha("ordinal", [ANN[n] for n in chosen], [BOB[n] for n in chosen])
    assert find(found, "people", "lang=zh").alpha["ordinal"].value == pytest.approx(expected)
    assert find(found, "people", "lang=zh").units == 5


def test_where_leaves_only_the_votes_about_answers_that_fulfil_it(make_run: MakeRun) -> None:
    run = make_run()
    rate(run)
    found = vote_statistics(run, where="lang = 'zh' AND grade > 1", by=["grade"])
    chosen = [n for n, row in enumerate(ROWS) if row["lang"] == "zh" and int(str(row["grade"])) > 1]
    assert {vote.id for vote in found.votes.votes} == {f"r{n}" for n in chosen}
    expected = alpha("ordinal", [ANN[n] for n in chosen], [BOB[n] for n in chosen])
    assert find(found, "people").alpha["ordinal"].value == pytest.approx(expected)
    assert {one.slice for one in found.agreements} <= {"all", *(f"grade={n}" for n in range(2, 6))}


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("grade > 9", "no answer with votes fulfils --where"),
        ("colour = 1", "--where: "),
        ("grade >", "--where: "),
    ],
)
def test_a_condition_that_selects_nothing_is_an_error(
    make_run: MakeRun, where: str, problem: str
) -> None:
    run = make_run()
    rate(run)
    with pytest.raises(UsageError, match=problem):
        vote_statistics(run, where=where)


@pytest.mark.parametrize("command", ["stats", "join", "import"])
def test_a_run_in_object_storage_has_no_votes(command: str) -> None:
    more = ["file.jsonl"] if command == "import" else []
    done = CliRunner().invoke(cli, ["feedback", command, "s3://bucket/out", *more])
    assert isinstance(done.exception, UsageError)
    assert "takes no votes" in done.exception.message


def test_a_column_that_does_not_exist_is_an_error(make_run: MakeRun) -> None:
    run = make_run()
    rate(run)
    with pytest.raises(UsageError, match="--by colour: the run has no such column"):
        vote_statistics(run, by=["colour"])


def test_a_metric_is_compared_on_the_scale_of_the_votes(make_run: MakeRun) -> None:
    """`exact` is 1 for rows with an even number, 0 for the others: mapped to 5 and 1."""
    rows = [row | {"gold": row["q"] if n % 2 == 0 else "other"} for n, row in enumerate(ROWS)]
    evaluate = {"reference": "gold", "metrics": ["exact", "length"]}
    run = make_run(rows=rows, evaluate=evaluate)
    rate(run)
    found = find(vote_statistics(run), "people and exact")
    people = (np.array(ANN) + np.array(BOB)) / 2
    exact = np.array([5.0, 1.0] * 5)
    assert found.alpha["interval"].value == pytest.approx(alpha("interval", people, exact))
    assert found.kappa is not None
    rounded = np.floor(people + 0.5)
    assert found.kappa.value == pytest.approx(cohen_kappa_score(rounded, exact))
    between = {one.between for one in vote_statistics(run).agreements}
    assert "people and length_characters" not in between  # it has no range


def test_passes_labels_and_rubrics_are_questions_of_their_own(make_run: MakeRun) -> None:
    run = make_run()
    vote = Voter(run)
    passes: dict[str, list[Any]] = {
        "ann": [True, True, False, False],
        "bob": [True, False, False, False],
    }
    labels: dict[str, list[Any]] = {
        "ann": [["rude"], ["short"], ["rude"], ["short"]],
        "bob": [["rude"], ["short"]] * 2,
    }
    votes = [
        vote(f"r{n}", kind, reviewer=name, **{key: value})
        for kind, key, given in (("pass", "value", passes), ("label", "labels", labels))
        for name, values in given.items()
        for n, value in enumerate(values)
    ]
    votes += [
        vote("r0", "rating", value=4, rubric=rubric, reviewer=name)
        for rubric in ("tone", "facts")
        for name in ("ann", "bob")
    ]
    append_votes(run.folder, votes)
    found = vote_statistics(run)
    questions = {one.question for one in found.agreements}
    assert questions == {"pass", "label: rude", "label: short", "rating: facts", "rating: tone"}
    kappa = find(found, "ann and bob", question="pass").kappa
    assert kappa is not None
    assert kappa.value == pytest.approx(cohen_kappa_score(passes["ann"], passes["bob"]))
    assert find(found, "people", question="label: rude").alpha["nominal"].value == pytest.approx(1)
    assert find(found, "people", question="rating: tone").alpha["ordinal"].value is None


def test_win_rates_count_ties_half_and_show_position_bias(make_run: MakeRun) -> None:
    run, other = make_run(), make_run("other", run={"seed": 7})
    vote = Voter(run)
    choices = ["a", "a", "a", "b", "tie", "both_bad"]
    sides = ["run", "run", "other", "other", "run", "run"]
    append_votes(
        run.folder,
        [
            vote.pair(f"r{n}", choice, other, shown_first=side)
            for n, (choice, side) in enumerate(zip(choices, sides, strict=True))
        ],
    )
    (rate,) = vote_statistics(run).win_rates
    assert (rate.wins, rate.losses, rate.ties, rate.both_bad) == (3, 1, 1, 1)
    assert rate.rate.value == pytest.approx((3 + 0.5 * 2) / 6)
    assert rate.rate.low is not None
    assert rate.shown_first == pytest.approx(3 / 4)
    by_lang = {one.slice: one for one in vote_statistics(run, by=["lang"]).win_rates}
    assert {name: (one.wins, one.votes) for name, one in by_lang.items()} == {
        "all": (3, 6),
        "lang=zh": (2, 3),
        "lang=en": (1, 3),
    }


def test_votes_that_do_not_count_are_listed_by_reason(make_run: MakeRun) -> None:
    run = make_run()
    vote = Voter(run)
    first = vote("r0", "rating", value=1)
    append_votes(
        run.folder,
        [
            first,
            vote("r0", "undo", undoes=first.vote_id),
            vote("r1", "rating", value=2, response_sha="0" * 64),
            vote("r2", "rating", value=3).model_copy(update={"id": "gone"}),
            vote("r3", "rating", value=3, run_id="another"),
            vote("r4", "rating", value=3),
        ],
    )
    found = vote_statistics(run).votes
    assert [one.id for one in found.votes] == ["r4"]
    problems = found.problems
    assert [len(p) for p in (problems.changed, problems.no_row, problems.other_run)] == [1, 1, 1]


def test_the_command_prints_a_table_and_json(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    none = CliRunner().invoke(cli, ["feedback", "stats", str(run.folder.path)])
    assert none.output.startswith("no votes yet")
    rate(run)
    file = tmp_path / "more.jsonl"
    file.write_text(
        Voter(run)("r0", "rating", reviewer="王医生", value=5, vote_id="e" * 32).to_line()
    )
    added = CliRunner().invoke(cli, ["feedback", "import", str(run.folder.path), str(file)])
    assert (added.exit_code, "added     1 vote: 王医生 1" in added.output) == (0, True)
    shown = CliRunner().invoke(cli, ["feedback", "stats", str(run.folder.path)])
    assert "people    ann 10, bob 10, 王医生 1" in shown.output
    assert "ann and bob" in shown.output
    machine = CliRunner().invoke(cli, ["feedback", "stats", str(run.folder.path), "--json"])
    content = json.loads(machine.output)
    assert content["votes"] == 21
    assert content["agreement"][0]["alpha"]["ordinal"]["value"] is not None
