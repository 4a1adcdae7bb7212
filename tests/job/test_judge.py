"""The section `evaluate.judges`: errors with their place, paths, and a round trip through the dump."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import JobFileError
from batchgen.jobfile.docs.json_schema import job_schema
from batchgen.jobfile.load import load_job

Write = Callable[..., Path]


def test_a_judge_needs_only_a_name(write: Write) -> None:
    (judge,) = load_job(write("evaluate: {judges: [{name: good}]}\n")).job.evaluate.judges
    assert (judge.mode, judge.model, judge.language, judge.reference) == (
        "rubric",
        None,
        "en",
        "hide",
    )
    assert judge.labels == ("1", "2", "3", "4", "5")


def test_a_scale_has_all_whole_numbers_between_its_ends(write: Write) -> None:
    added = "evaluate: {judges: [{name: good, scale: [0, 10]}]}\n"
    (judge,) = load_job(write(added)).job.evaluate.judges
    assert judge.labels == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")


def test_paths_are_relative_to_the_job_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "jobs" / "small").mkdir(parents=True)
    added = (
        "evaluate:\n  judges:\n"
        "  - {name: a, model: small, rubric_file: good.md}\n"
        "  - {name: b, model: {path: ../big, tokenizer: small}}\n"
        "  - {name: c, model: org/name, mode: pairwise, baseline: ../out/other}\n"
    )
    a, b, c = load_job(write(added, name="jobs/job.yaml")).job.evaluate.judges
    assert a.model
    assert b.model
    assert c.model
    assert a.model.path == str(tmp_path / "jobs" / "small")
    assert a.rubric_file == str(tmp_path / "jobs" / "good.md")
    assert (b.model.path, b.model.tokenizer) == (str(tmp_path / "big"), a.model.path)
    assert (c.model.path, c.baseline) == ("org/name", str(tmp_path / "out" / "other"))


def test_the_dump_reads_back_as_the_same_job(write: Write) -> None:
    added = (
        "evaluate:\n  judges:\n"
        "  - {name: a, model: demo:smollm2-135m, rubric: 'a $${price}: {{ not a template }}', scale: [1, 3]}\n"
        "  - {name: b, mode: pairwise, column: other, language: zh}\n"
    )
    loaded = load_job(write(added))
    again = load_job(write(text=loaded.dump(), name="again.yaml"))
    assert again.job == loaded.job
    assert loaded.job.evaluate.judges[0].rubric == "a ${price}: {{ not a template }}"


@pytest.mark.parametrize(
    ("judge", "key", "message"),
    [
        pytest.param("{mode: rubric}", "name", "is required", id="no name"),
        pytest.param("{name: a b}", "name", "invalid value: the text 'a b'", id="name"),
        pytest.param("{name: a, rubrik: x}", "rubrik", "unknown key", id="unknown key"),
        pytest.param("{name: a, mode: pair}", "mode", "expected rubric or pairwise; found the text 'pair'", id="unknown mode"),
        pytest.param("{name: a, scale: [5, 1]}", "scale", "scale must be the worst verdict and a greater best one, such as [1, 5]", id="falling scale"),
        pytest.param("{name: a, scale: [1, 2, 3]}", "scale", "scale must be the worst verdict and a greater best one, such as [1, 5]", id="scale of three"),
        pytest.param("{name: a, scale: [1, 100]}", "scale[1]", "expected a whole number from 0 to 10; found 100", id="scale too long"),
        pytest.param("{name: a, mode: pairwise}", "mode", "pairwise needs another answer", id="nothing to compare with"),
        pytest.param("{name: a, mode: pairwise, column: b, baseline: c}", "mode", "pairwise needs another answer", id="two to compare with"),
        pytest.param("{name: a, column: b}", "column", "column has no effect without mode: pairwise", id="column for a rubric"),
        pytest.param("{name: a, mode: pairwise, column: b, scale: [1, 2]}", "scale", "scale has no effect with mode: pairwise", id="scale for pairs"),
        pytest.param("{name: a, rubric: x, rubric_file: y}", "rubric", "rubric and rubric_file both define the rubric", id="two rubrics"),
        pytest.param("{name: a, rubric: ' '}", "rubric", "rubric is blank", id="no rubric"),
        pytest.param("a", "", "expected a mapping; found the text 'a'", id="no mapping"),
    ],
)  # fmt: skip
def test_what_is_refused(write: Write, judge: str, key: str, message: str) -> None:
    with pytest.raises(JobFileError) as caught:
        load_job(write(f"evaluate:\n  judges:\n  - {judge}\n"))
    (problem,) = caught.value.problems
    assert problem.key == f"evaluate.judges[0]{'.' if key else ''}{key}"
    assert (problem.line, problem.message) == (9, message)


def test_all_problems_are_reported_at_once(write: Write) -> None:
    added = "evaluate:\n  judges: [{name: a, scale: [2, 1]}, {name: b, mode: x}, {nam: c}]\n"
    with pytest.raises(JobFileError) as caught:
        load_job(write(added))
    assert {p.key for p in caught.value.problems} == {
        "evaluate.judges[0].scale",
        "evaluate.judges[1].mode",
        "evaluate.judges[2].name",
        "evaluate.judges[2].nam",
    }


@pytest.mark.parametrize(
    ("section", "message"),
    [
        pytest.param(
            "{judges: [{name: a}, {name: a}]}",
            "two are named 'a'",
            id="two judges",
        ),
        pytest.param(
            "{metrics: [exact], judges: [{name: exact}]}",
            "two are named 'exact'",
            id="a metric and a judge",
        ),
    ],
)  # fmt: skip
def test_names_are_unique(write: Write, section: str, message: str) -> None:
    with pytest.raises(JobFileError, match="two are named") as caught:
        load_job(write(f"evaluate: {section}\n"))
    assert [p.message for p in caught.value.problems] == [message]


def test_a_run_is_not_compared_with_itself(write: Write) -> None:
    added = "evaluate:\n  judges:\n  - {name: a, mode: pairwise, baseline: out/demo}\n"
    with pytest.raises(JobFileError) as caught:
        load_job(write(added))
    (problem,) = caught.value.problems
    assert (problem.key, problem.line) == ("evaluate.judges[0].baseline", 9)
    assert "is the output folder of this run" in problem.message


def test_the_schema_describes_judges() -> None:
    judge: dict[str, Any] = job_schema([])["definitions"]["Judge"]
    assert judge["required"] == ["name"]
    assert {"type": "string", "minLength": 1} in judge["properties"]["model"]["anyOf"]
