"""The rows of a report: which ones, in which order, and what of long texts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.jobfile.load import load_job
from batchgen.report.page import json_island
from batchgen.report.reported_run import open_reported_run
from batchgen.report.rows.answer_survey import survey_answers
from batchgen.report.rows.row_choice import MAX_RANDOM, MAX_WORST, choose_answers
from batchgen.report.rows.row_records import MAX_TOTAL_BYTES, MAX_TURNS, cut_records, read_records
from batchgen.report.rows.score_survey import survey_scores
from batchgen.report.write_report import write_report
from batchgen.run.run import run as run_job

MakeJob = Callable[..., Path]
MakeRun = Callable[..., Path]


def test_the_worst_come_first_then_random_ones(scored: MakeRun) -> None:
    right = [n % 2 == 0 for n in range(700)]
    run = open_reported_run(scored(rows=[(f"ask {n}", good) for n, good in enumerate(right)]))
    answers = survey_answers(run.scored)
    scores = survey_scores(run.scored, run.ranked, MAX_WORST)
    shown = choose_answers(run.scored, answers, scores)
    worst = [one for one in shown if "worst" in one.reasons]
    assert shown[: len(worst)] == worst
    assert [one.id for one in worst] == [f"r{n}" for n in range(1, 2 * MAX_WORST, 2)]
    drawn = [one for one in shown if "random" in one.reasons]
    assert len(drawn) == MAX_RANDOM
    assert any(right[one.row] for one in drawn)


def test_a_right_answer_is_not_among_the_worst(scored: MakeRun) -> None:
    run = open_reported_run(scored(rows=[("a", True), ("b", False), ("c", True)]))
    scores = survey_scores(run.scored, run.ranked, 10)
    assert scores.worst == {"exact": [("r1", 0)]}


def test_a_record_has_all_that_the_browser_shows(scored: MakeRun) -> None:
    folder = scored(rows=[("a", False)], columns={"lang": ["zh"]}, slices=["lang"])
    run = open_reported_run(folder)
    shown = choose_answers(
        run.scored, survey_answers(run.scored), survey_scores(run.scored, run.ranked, 5)
    )
    (record,) = read_records(run.scored, shown)
    assert record["prompt"] == [{"role": "user", "content": "a"}]
    assert (record["id"], record["answer"], record["reference"]) == ("r0", "a", ["other"])
    assert record["slices"] == ["lang=zh"]
    assert record["scores"]["exact"][:2] == [0.0, "ok"]
    assert set(record["why"]) == {"worst", "random"}


def test_long_texts_are_cut_and_what_is_left_out_is_counted() -> None:
    (cut,) = cut_records([{"answer": "x" * 1_000_000}]).records
    assert cut["answer"] == {"cut": "x" * 4000, "more": 996_000}


@pytest.mark.parametrize("character", ["x", "中", "<", "\0", "😀"])
def test_many_long_texts_are_cut_further(character: str) -> None:
    found = cut_records([{"answer": character * 9000} for _ in range(1000)])
    assert len(json_island(found.records).encode()) <= MAX_TOTAL_BYTES
    assert found.characters == len(found.records[0]["answer"]["cut"])


def test_health_counts(scored: MakeRun) -> None:
    run = open_reported_run(scored(rows=[("same", True), ("same", True), ("longer text", True)]))
    found = survey_answers(run.scored)
    assert (found.rows, found.repeated, found.empty, found.cut) == (3, 1, 0, 0)
    assert found.characters.tolist() == [4, 4, 11]


def test_of_a_long_conversation_the_last_turns_are_shown(make_job: MakeJob, tmp_path: Path) -> None:
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": f"turn {n}"} for n in range(31)]
    job = make_job(
        [{"m": turns}],
        input={"columns": {"messages": "m"}},
        prompt={"user": None},
        evaluate={"metrics": ["refusal"]},
    )
    run_job(load_job(job))
    run = open_reported_run(tmp_path / "out")
    scores = survey_scores(run.scored, run.ranked, 5)
    shown = choose_answers(run.scored, survey_answers(run.scored), scores)
    (record,) = read_records(run.scored, shown)
    assert (len(record["prompt"]), record["earlier"]) == (MAX_TURNS, 31 - MAX_TURNS)
    assert record["prompt"][-1]["content"] == "turn 30"


def test_masked_rows_have_no_personal_data(scored: MakeRun, tmp_path: Path) -> None:
    prompt = "write to anna.lee@example.com about it"
    base, new = (
        scored("base", [(prompt, True), ("two", True)]),
        scored("new", [(prompt, False), ("two", True)]),
    )
    plain = write_report(new, tmp_path / "plain.html", baseline=base).read_text("utf-8")
    masked = write_report(new, tmp_path / "masked.html", baseline=base, masked=True)
    assert "anna.lee" in plain
    assert "anna.lee" not in masked.read_text("utf-8")
    assert "a***@example.com" in masked.read_text("utf-8")
