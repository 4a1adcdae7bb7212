"""Runs with `input.cross`: resumed, reused, sharded, scored by slice, and what a job file may say."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.errors import JobFileError
from batchgen.jobfile.load import load_job, load_stored_job
from batchgen.storage.failpoints import VARIABLE

MakeJob = Callable[..., Path]
ROWS = [{"id": f"r{n}", "q": f"question {n}"} for n in range(15)]
CROSS = {"lang": ["en", "zh"], "who": {"sample": ["nurse", "teacher"], "weights": [3.0, 1.0]}}
PROMPT = {"user": "{{ q }} in {{ lang }} for a {{ who }}"}


def job(make_job: MakeJob, cross: Any = CROSS, **sections: Any) -> Path:
    data = {"path": "rows.jsonl", "cross": cross}
    return make_job(ROWS, input=data, prompt=PROMPT, batching={"part_rows": 7}, **sections)


def answers(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "responses.parquet").drop("run_id", "created_at")


def test_new_columns_are_in_prompts_and_in_the_output(make_job: MakeJob) -> None:
    file = job(make_job, evaluate={"metrics": ["length"], "slices": ["lang", "who"]})
    assert call(["run", str(file), "-q"]) == 0
    found = answers(file.parent / "out")
    assert found["id"].to_list() == [f"r{n}/{lang}" for n in range(15) for lang in ("en", "zh")]
    for row in found.to_dicts():
        assert row["response"] == f"{row['q']} in {row['lang']} for a {row['who']}"
    slices = pl.read_parquet(file.parent / "out" / "metrics.parquet")["slice"].unique()
    assert {"lang=en", "lang=zh", "who=nurse", "who=teacher"} <= {*slices}


def test_rows_of_one_row_can_be_a_cluster(make_job: MakeJob, tmp_path: Path) -> None:
    rows = [{"key": f"k{n}", "q": "x" * (n % 5 + 1)} for n in range(20)]
    data = {"path": "rows.jsonl", "columns": {"id": "key"}, "cross": {"lang": ["en", "zh", "de"]}}
    widths = {}
    for name, cluster in (("apart", {}), ("together", {"cluster": "key"})):
        file = make_job(rows, input=data, evaluate={"metrics": ["length"], **cluster})
        assert call(["run", str(file), "-q", "-o", str(tmp_path / name)]) == 0
        table = pl.read_parquet(tmp_path / name / "metrics.parquet").row(0, named=True)
        widths[name] = table["ci_high"] - table["ci_low"]
    assert answers(tmp_path / "together")["key"].to_list()[:4] == ["k0", "k0", "k0", "k1"]
    assert widths["together"] > 1.3 * widths["apart"]


def test_a_kill_and_a_second_start_give_the_same_rows(make_job: MakeJob) -> None:
    file = job(make_job)
    assert call(["run", str(file), "-q", "-o", str(file.parent / "whole")]) == 0
    command = [sys.executable, "-m", "batchgen", "run", str(file), "-q"]
    environment = {**os.environ, VARIABLE: "part.after_link:2"}
    killed = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert killed.returncode == -9, killed.stderr
    assert call(["run", str(file), "-q"]) == 0
    assert answers(file.parent / "out").equals(answers(file.parent / "whole"))


def test_shards_make_the_rows_of_one_process(make_job: MakeJob) -> None:
    file = job(make_job)
    assert call(["run", str(file), "-q", "-o", str(file.parent / "whole")]) == 0
    for share in (["--shard", "1/2"], ["--shard", "0/2"], ["--merge"]):
        assert call(["run", str(file), "-q", *share]) == 0
    assert answers(file.parent / "out").equals(answers(file.parent / "whole"))


def test_another_cross_is_another_run(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    file = job(make_job)
    assert call(["run", str(file), "-q"]) == 0
    job(make_job, {**CROSS, "lang": ["en", "zh", "de"]})
    assert call(["run", str(file)]) == 6
    assert (
        'input.cross.lang was ["en","zh"], is ["en","zh","de"]'
        in capsys.readouterr().err.replace(', "', ',"')
    )


def test_answers_are_reused_when_a_value_is_added(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    file = job(make_job)
    assert call(["run", str(file), "-q"]) == 0
    job(make_job, {**CROSS, "lang": ["de", "en", "zh"]})
    new = str(file.parent / "new")
    assert (
        call(
            ["run", str(file), "-o", new, "--incremental-from", str(file.parent / "out"), "--json"]
        )
        == 0
    )
    reused = json.loads(capsys.readouterr().out.splitlines()[-1])["incremental"]
    assert (reused["reused"], reused["generated"]) == (30, 15)


def test_the_copy_of_the_job_is_the_same_job(make_job: MakeJob) -> None:
    file = job(make_job)
    assert call(["run", str(file), "-q"]) == 0
    stored = load_stored_job(file.parent / "out" / "job.yaml")
    assert stored.job.input.cross == load_job(file).job.input.cross


def test_a_run_of_an_earlier_version_is_resumed(make_job: MakeJob) -> None:
    """Its settings have no key `cross`."""
    file = make_job(ROWS)
    assert call(["run", str(file), "-q"]) == 0
    recorded = json.loads((file.parent / "out" / ".batchgen" / "run.json").read_text("utf-8"))
    assert "cross" not in recorded["settings"]["input"]


@pytest.mark.parametrize(
    ("cross", "message"),
    [
        ("{lang: []}", "input.cross.lang: expected a list of one or more"),
        ("{lang: en}", "input.cross.lang: expected a list of one or more"),
        ("{lang: [en, en]}", "input.cross.lang: the value en is listed twice"),
        (
            "{lang: [en, 1]}",
            "input.cross.lang: the values are of different types: a number and text",
        ),
        ("{who: {sample: [a, b], weights: [1.0]}}", "weights has 1 numbers for 2 values"),
        ("{who: {sampel: [a, b]}}", "sampel: unknown key"),
        ("{who: {weights: [1.0]}}", "input.cross.who.sample: is required"),
        ("[a]", "input.cross: expected a mapping"),
    ],
)
def test_problems_of_a_job_file_have_their_place(
    make_job: MakeJob, cross: str, message: str
) -> None:
    file = make_job(ROWS)
    text = file.read_text("utf-8").replace(
        "  path: rows.jsonl\n", f"  path: rows.jsonl\n  cross: {cross}\n"
    )
    file.write_text(text, "utf-8")
    with pytest.raises(JobFileError) as found:
        load_job(file)
    assert message in str(found.value)
    assert "job.yaml:3:" in str(found.value)


def test_a_taken_name_is_named_with_its_line(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    file = make_job(ROWS, input={"path": "rows.jsonl", "cross": {"q": ["a"]}})
    assert call(["validate", str(file)]) == 2
    assert "input.cross.q: the input has a column 'q' already" in capsys.readouterr().err


def test_plan_shows_the_product(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", str(job(make_job))]) == 0
    shown = capsys.readouterr().out
    assert "30 rows · jsonl" in shown
    assert "cross lang (2 values) · who (1 of 2, drawn)" in shown
