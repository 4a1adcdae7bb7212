"""A report with a baseline: flips first, both answers, and baselines that cannot be compared."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import UsageError
from batchgen.report.report_baseline import open_baseline
from batchgen.report.reported_run import open_reported_run
from batchgen.report.rows.answer_survey import survey_answers
from batchgen.report.rows.row_choice import choose_answers
from batchgen.report.rows.row_records import read_records
from batchgen.report.rows.score_survey import survey_scores
from batchgen.report.write_report import write_report
from tests.report.conftest import Page

MakeRun = Callable[..., Path]


def test_flips_come_first_and_the_worse_before_the_better(scored: MakeRun) -> None:
    base = scored("base", [(f"ask {n}", n in (1, 3)) for n in range(6)])
    new = scored("new", [(f"ask {n}", n in (2, 3)) for n in range(6)])
    run = open_reported_run(new)
    baseline = open_baseline(run, base)
    assert baseline.flips == [("r1", 0), ("r2", 0)]
    scores = survey_scores(run.scored, run.ranked, 9)
    shown = choose_answers(run.scored, survey_answers(run.scored), scores, baseline.flips)
    assert [one.id for one in shown[:2]] == ["r1", "r2"]
    assert [one.reasons[0] for one in shown[:3]] == ["flip", "flip", "worst"]
    records = baseline.add_to(read_records(run.scored, shown), shown, run.scored)
    assert (records[0]["base"], records[0]["answer"]) == ("ask 1", "ask 1")
    assert (records[0]["base_scores"]["exact"][0], records[0]["scores"]["exact"][0]) == (1, 0)


def test_an_answer_to_another_prompt_is_not_shown_next_to_it(scored: MakeRun) -> None:
    base = scored("base", [("same", True), ("old prompt", True)])
    run = open_reported_run(scored("new", [("same", True), ("new prompt", True), ("x", True)]))
    baseline = open_baseline(run, base)
    shown = choose_answers(
        run.scored, survey_answers(run.scored), survey_scores(run.scored, run.ranked, 9)
    )
    records = baseline.add_to(read_records(run.scored, shown), shown, run.scored)
    assert {one["id"]: one.get("base") for one in records} == {"r0": "same", "r1": None, "r2": None}


def test_the_page_has_the_differences(scored: MakeRun) -> None:
    base = scored("base", [(f"ask {n}", True) for n in range(30)])
    new = scored("new", [(f"ask {n}", n > 14) for n in range(30)])
    text = Page(write_report(new, baseline=base).read_text("utf-8")).text
    assert "Compared with the baseline" in text
    assert "-0.500" in text
    assert "0 / 15 / 15" in text


@pytest.mark.parametrize(
    ("count", "said"), [(1, "the prompt of 1 row differs"), (2, "the prompts of 2 rows differ")]
)
def test_a_baseline_of_other_prompts(scored: MakeRun, count: int, said: str) -> None:
    base = scored("base", [(f"a{n}", True) for n in range(count)])
    new = scored("new", [(f"b{n}", True) for n in range(count)])
    with pytest.raises(UsageError, match="no answer to the same prompt in common") as raised:
        open_baseline(open_reported_run(new), base)
    assert said in raised.value.message
    assert "compare BASE NEW --pair-changed-prompts" in raised.value.hint


def test_a_baseline_without_scores(scored: MakeRun, tmp_path: Path) -> None:
    new = scored("new")
    with pytest.raises(UsageError, match="is not the output folder of a run"):
        open_baseline(open_reported_run(new), tmp_path)
