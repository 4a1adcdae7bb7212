"""`plan` prints the form of answers, and the summary of a run says that unfinished answers lack their end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from batchgen.cli import cli

MakeJob = Callable[..., Path]


def test_plan_and_summary_name_the_form(make_job: MakeJob) -> None:
    form = {"choice": ["a", "b"], "columns": {"regex": "q"}, "after": "</think>"}
    job = str(make_job(decoding={"response_format": form, "max_new_tokens": 3}))
    shown = CliRunner().invoke(cli, ["plan", job]).output
    assert "form: choice (sha256 " in shown
    assert "regex from column q · after '</think>'" in shown
    done = CliRunner().invoke(cli, ["run", job])
    assert "1 of 1 answer reached decoding.max_new_tokens before the end of their" in done.output
    summary = " ".join(done.output.split())
    assert "see whether the model writes '</think>', after which the form begins" in summary


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("all", "2 of 4 answers reached decoding.max_new_tokens before the end of their"),
        ("none", "3 of 4 answers reached decoding.max_new_tokens and may lack their end"),
    ],
)
def test_the_summary_counts_only_rows_that_have_a_form(
    make_job: MakeJob, keep: str, message: str
) -> None:
    forms = ["[a]{9}", None, "b", "[a]{5}"]
    job = make_job(
        [{"q": "a question", "form": form} for form in forms],
        decoding={"response_format": {"columns": {"regex": "form"}}, "max_new_tokens": 3},
        output={"keep_columns": keep},
    )
    assert message in CliRunner().invoke(cli, ["run", str(job)]).output
