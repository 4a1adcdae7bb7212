"""`output.report`: report.html is published with the run, and is never about other answers or scores."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import batchgen
from batchgen.cli import cli
from batchgen.errors import ExitCode, JobFileError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from tests.report.conftest import Page

MakeJob = Callable[..., Path]
EVALUATE = {"metrics": ["length"]}


def of(folder: RunFolder) -> Page:
    return Page(folder.report.read_text("utf-8"))


@pytest.mark.slow
def test_a_run_writes_it_and_a_new_start_restores_it(make_job: MakeJob) -> None:
    job = load_job(make_job(evaluate=EVALUATE, output={"report": True}))
    folder = run(job).folder
    assert "No gate is set" in of(folder).text
    assert folder.report.stat().st_mode & 0o777 == 0o600
    assert (
        CliRunner().invoke(cli, ["verify", str(folder.path)], standalone_mode=False).return_value
        == 0
    )
    folder.report.unlink()
    assert run(job).outcome == "already complete"
    assert "No gate is set" in of(folder).text


@pytest.mark.slow
def test_new_scores_have_a_new_report(make_job: MakeJob) -> None:
    folder = run(load_job(make_job(evaluate=EVALUATE, output={"report": True}))).folder
    assert "refusal" not in {one["name"] for one in of(folder).data["metrics"]}
    done = CliRunner().invoke(
        cli, ["score", str(folder.path), "--metric", "refusal"], standalone_mode=False
    )
    assert done.exception is None
    assert "refusal" in {one["name"] for one in of(folder).data["metrics"]}


def test_scores_without_a_report_remove_the_old_one(make_job: MakeJob) -> None:
    folder = run(load_job(make_job(evaluate=EVALUATE))).folder
    folder.report.write_text("about old scores")
    batchgen.score(folder.path, ["refusal"])
    assert not folder.report.exists()


@pytest.mark.slow
def test_withheld_answers_have_a_report_next_to_them(make_job: MakeJob) -> None:
    gates = [{"metric": "length_characters", "min": 1000}]
    job = make_job(
        evaluate=EVALUATE | {"gates": gates}, output={"report": True, "publish": "gated"}
    )
    result = run(load_job(job))
    assert (result.outcome, result.exit_code) == ("withheld", ExitCode.GATE_FAILED)
    assert not result.folder.report.exists()
    assert "1 of 1 gates did not pass" in of(RunFolder(result.folder.staged)).text


def test_a_report_without_scores_is_an_error_of_the_job(make_job: MakeJob) -> None:
    with pytest.raises(JobFileError, match=r"output\.report has no effect without scores"):
        load_job(make_job(output={"report": True}))


def test_the_old_report_is_moved_aside_with_its_run(make_job: MakeJob) -> None:
    job = load_job(make_job(evaluate=EVALUATE))
    folder = run(job).folder
    folder.report.write_text("about the old run")
    run(job, start="fresh")
    assert not folder.report.exists()
    aside = folder.path.with_name("out.old-1")
    assert (aside / "report.html").read_text() == "about the old run"
    assert json.loads((aside / "manifest.json").read_text())["files"]


ABSENT = """
import sys
sys.modules["altair"] = None  # as if it were not installed
import batchgen
try:
    batchgen.run(sys.argv[1])
except batchgen.BatchgenError as error:
    print(error.exit_code, error.message, error.hint)
"""


@pytest.mark.slow
def test_a_missing_package_is_reported_before_the_run(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(evaluate=EVALUATE, output={"report": True})
    done = subprocess.run([sys.executable, "-c", ABSENT, str(job)], capture_output=True, text=True)
    assert done.stdout.startswith("5 the report needs the packages altair,"), done.stderr
    assert "pip install -e '.[report]'" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_page_names_reasons_and_groups_in_both_languages(make_job: MakeJob) -> None:
    page = of(run(load_job(make_job(evaluate=EVALUATE, output={"report": True}))).folder)
    assert {"stop", "正常结束"} <= set(page.content("text"))
    assert "结束原因" in {attrs.get("data-zh") for tag, attrs in page.elements if tag == "svg"}
    assert {"settings", "设置"} <= set(page.content("span"))
