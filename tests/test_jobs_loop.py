"""The worked loop of jobs/customer_service: run, recorded votes, statistics, scores, export, and the run with the edited
answers as examples."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from batchgen.cli import cli
from batchgen.feedback.training.choose_examples import ExportOptions
from batchgen.feedback.training.export_examples import export_examples
from batchgen.feedback.vote import parse_vote, response_sha
from batchgen.feedback.votes_file import append_votes
from batchgen.jobfile.load import load_job
from batchgen.output.published_run import PublishedRun
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder

JOBS = Path(__file__).parent.parent / "jobs"
LOOP = JOBS / "customer_service" / "loop"
EDITED = {"T-4101", "T-4102", "T-4103", "T-4107"}


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    """A copy of the job's folder, so that its output is in a folder of the test."""
    shutil.copytree(JOBS / "customer_service", tmp_path / "jobs" / "customer_service")
    return tmp_path / "jobs" / "customer_service" / "loop"


def batchgen(*words: object) -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    assert done.exception is None, done.output
    return done.stdout


def as_json(*words: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(batchgen(*words, "--json").splitlines()[-1])
    return content


@pytest.mark.slow
def test_the_loop_from_answers_to_better_answers(loop: Path) -> None:
    first, following = (loop.parents[1] / "out" / "loop" / name for name in ("first", "next"))
    run(load_job(loop / "first.yaml"))
    imported = as_json("feedback", "import", first, loop / "votes.jsonl", "--same-answers")
    assert imported["by_reviewer"] == {"mara": 11, "林": 11}
    stats = as_json("feedback", "stats", first)
    people = stats["agreement"][0]
    assert (people["question"], people["between"], people["units"]) == ("rating", "people", 8)
    assert people["alpha"]["ordinal"]["value"] == pytest.approx(0.54, abs=0.01)
    as_json("feedback", "join", first)
    responses = pl.read_parquet(first / "responses.parquet")
    assert responses["score_human"].mean() == pytest.approx(1.4375)
    assert set(responses["score_human_raters"]) == {2}

    shipped = (loop / "examples.yaml").read_text("utf-8")
    export = ("feedback", "export", first, "--format")
    made = as_json(*export, "few-shot", "-o", loop / "examples.yaml")
    assert made["sources"] == {"edits": 4}
    assert (loop / "examples.yaml").read_text("utf-8") == shipped
    pairs = loop / "dpo.jsonl"
    assert as_json(*export, "trl-dpo", "-o", pairs)["files"] == {str(pairs): 4}

    run(load_job(loop / "next.yaml"))
    again = pl.read_parquet(following / "responses.parquet")
    assert not EDITED & set(again["id"])
    turns = [turn["role"] for turn in again["messages"].to_list()[0]]
    assert turns == ["system", *["user", "assistant"] * 4, "user"]
    assert "抬头" in again["messages"].to_list()[0][8]["content"]
    compared = as_json("compare", first, following, "--pair-changed-prompts")
    by_name = {one["metric"]: one for one in compared["metrics"]}
    assert {"valid", "reply_words", "human"} <= by_name.keys()


@pytest.mark.soak
def test_the_loop_with_a_model(loop: Path) -> None:
    """The demo model answers differently on different machines: the recorded edits are kept for its own answers."""
    model = ("model={path: 'demo:smollm2-135m'}", "decoding.max_new_tokens=60", "input.limit=6")
    first, following = (loop.parents[1] / "out" / "loop" / name for name in ("first", "next"))
    run(load_job(loop / "first.yaml", overrides=model))
    reviewed = PublishedRun(RunFolder(first))
    answers = dict(reviewed.frame().select("id", "response").rows())
    recorded = [parse_vote(line) for line in (loop / "votes.jsonl").read_bytes().splitlines()]
    own = [
        vote.model_copy(
            update={
                "run_id": reviewed.manifest.run_id,
                "response_sha": response_sha(answers[vote.id]),
            }
        )
        for vote in recorded
        if vote.id in answers
    ]
    append_votes(reviewed.folder, own)
    as_json("feedback", "join", first)
    options = ExportOptions("few-shot", examples=2)
    export_examples([reviewed], loop / "examples.yaml", options)
    run(load_job(loop / "next.yaml", overrides=model))
    compared = as_json("compare", first, following, "--pair-changed-prompts")
    by_name = {one["metric"]: one for one in compared["metrics"]}
    assert by_name["valid"]["base"] is not None
    assert by_name["valid"]["new"] is not None
