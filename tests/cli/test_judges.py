"""Jobs with judges as users see them: `validate`, `plan`, `run`, `models pin`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call

MakeJob = Callable[..., Path]
Write = Callable[..., Path]
ROWS = [{"q": "hello", "other": "hi"}]
RUBRIC = {"name": "good", "scale": [1, 3]}


def test_plan_shows_the_judges(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    pairwise = {"name": "vs", "mode": "pairwise", "column": "other"}
    job = make_job(ROWS, evaluate={"judges": [RUBRIC, pairwise]})
    assert call(["plan", str(job)]) == 0
    out = capsys.readouterr().out
    assert "Judges    good: rubric, 1 to 3 · engine echo, without a model" in out
    assert "          vs: pairwise against column other · engine echo, without a model" in out


def test_run_reports_the_judge_and_its_scores(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", str(make_job(ROWS, evaluate={"judges": [RUBRIC]}))]) == 0
    printed = capsys.readouterr()
    assert "judge good: querying engine echo, without a model" in printed.err
    assert "good_label_mass" in printed.out


def test_validate_reports_missing_columns_without_a_model(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    judges = [
        {"name": "a", "model": "no/such-model", "rubric_file": "gone.md"},
        {"name": "b", "mode": "pairwise", "baseline": "gone"},
    ]
    assert call(["validate", str(make_job(ROWS, evaluate={"judges": judges}))]) == 2
    err = capsys.readouterr().err
    assert "gone.md cannot be read: No such file or directory" in err
    assert "gone is not the output folder of a complete run" in err


@pytest.mark.parametrize("command", ["validate", "plan"])
def test_prompts_that_are_not_stored_cannot_be_judged(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    job = make_job(ROWS, evaluate={"judges": [RUBRIC]}, output={"store_prompt": False})
    assert call([command, str(job)]) == 2
    assert (
        "judges need the row's prompt, but the column `messages` is missing"
        in capsys.readouterr().err
    )
