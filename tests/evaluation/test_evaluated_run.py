"""Runs that are evaluated: scores as columns of the answers, scoring again without generating, withheld answers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import batchgen
from batchgen.cli import cli
from batchgen.cli.render.metric_table import SHOWN_ROWS, metric_lines
from batchgen.errors import ExitCode, JobFileError, ResourceError, StateError, UsageError
from batchgen.inspection import status as inspect
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.records import MetricRow
from batchgen.run.preflight.input_check import check_input
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import VARIABLE

MakeJob = Callable[..., Path]
ROWS: list[dict[str, str | None]] = [
    {"q": "one", "right": "one", "lang": "en"},
    {"q": "two", "right": "three", "lang": "en"},
    {"q": "三", "right": "三", "lang": "zh"},
    {"q": "四", "right": None, "lang": "zh"},
    {"q": None, "right": "x", "lang": None},
]
EVALUATE: dict[str, Any] = {
    "reference": "right",
    "slices": ["lang"],
    "metrics": ["exact", {"type": "length", "where": "lang = 'zh'"}],
}


def metrics(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    frame = pl.read_parquet(folder / "metrics.parquet")
    return {(row["metric"], row["slice"]): row for row in frame.to_dicts()}


def test_scores_are_columns_of_the_answers(make_job: MakeJob) -> None:
    job = load_job(
        make_job(ROWS, evaluate=EVALUATE, run={"max_error_rate": 1}, batching={"part_rows": 2})
    )
    frame = run(job).frame()
    assert frame["score_exact"].to_list() == [1.0, 0.0, 1.0, None, None]
    assert frame["score_length_characters"].to_list() == [None, None, 1.0, 1.0, None]
    assert frame["score_exact"].is_nan().sum() == 0


def test_the_long_detail_has_the_reason_why_a_row_has_no_score(
    make_job: MakeJob, tmp_path: Path
) -> None:
    run(load_job(make_job(ROWS, evaluate=EVALUATE, run={"max_error_rate": 1})))
    detail = pl.read_parquet(tmp_path / "out" / "scores.parquet").filter(
        pl.col("metric") == "exact"
    )
    assert detail["id"].to_list() == ["0", "1", "2", "3", "4"]
    assert detail["status"].to_list() == ["ok", "ok", "ok", "no_reference", "skipped"]


def test_metrics_have_value_coverage_and_interval_by_slice(
    make_job: MakeJob, tmp_path: Path
) -> None:
    run(load_job(make_job(ROWS, evaluate=EVALUATE, run={"max_error_rate": 1})))
    found = metrics(tmp_path / "out")
    whole = found["exact", "all"]
    assert (whole["value"], whole["n"], whole["coverage"]) == (pytest.approx(2 / 3), 3, 0.6)
    assert whole["method"] == "wilson"
    assert 0 < whole["ci_low"] < 2 / 3 < whole["ci_high"] < 1
    alone = found["exact", "lang=zh"]
    assert (alone["value"], alone["n"], alone["ci_low"]) == (1.0, 1, None)
    assert alone["method"].startswith("none: ")
    assert found["exact", "lang=null"]["n"] == 0
    assert found["length_characters", "all"]["coverage"] == 1.0
    assert {name for name, _ in found} == {"exact", "length_characters"}


def test_several_answers_to_a_prompt_are_one_cluster(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job(
        ROWS[:3],
        evaluate={"reference": "right", "metrics": ["exact"]},
        decoding={"num_return_sequences": 4, "temperature": 1.0},
    )
    run(load_job(job))
    found = metrics(tmp_path / "out")["exact", "all"]
    assert (found["n"], found["method"]) == (12, "t, clustered")


def test_without_metrics_no_score_files_are_written(make_job: MakeJob) -> None:
    folder = run(load_job(make_job(ROWS[:2]))).folder
    assert not folder.metrics.exists()
    assert not folder.scores.exists()


def test_changed_metrics_rescore_without_generating(make_job: MakeJob) -> None:
    job = make_job(ROWS[:4], evaluate=EVALUATE)
    first = run(load_job(job))
    answers = first.frame()
    only = "evaluate.metrics=[{type: exact, name: right, primary: true}]"
    again = run(load_job(job, overrides=[only, "evaluate.slices=[]"]))
    assert again.outcome == "already complete"
    assert again.run_id == first.run_id
    frame = again.frame()
    assert [c for c in frame.columns if c.startswith("score_")] == ["score_right"]
    kept = [c for c in answers.columns if not c.startswith("score_")]
    assert frame.select(kept).equals(answers.select(kept))
    assert [row.metric for row in again.metrics] == ["right"]
    assert "name: right" in again.folder.job.read_text()


def test_the_manifest_lists_all_files_after_rescoring(make_job: MakeJob) -> None:
    job = make_job(
        ROWS[:4],
        evaluate=EVALUATE,
        output={"path": "out", "layout": "parts"},
        batching={"part_rows": 2},
    )
    run(load_job(job))
    folder = run(load_job(job, overrides=["evaluate.metrics=[exact]"])).folder
    manifest = json.loads(folder.manifest.read_text())
    listed = {file["name"]: file["rows"] for file in manifest["files"]}
    assert listed == {
        "metrics.parquet": 3,
        "responses/part-00000.parquet": 2,
        "responses/part-00001.parquet": 2,
        "scores.parquet": 4,
    }
    on_disk = {str(p.relative_to(folder.path)): p for p in folder.path.rglob("*.parquet")}
    assert listed == {name: pq.read_metadata(path).num_rows for name, path in on_disk.items()}


def test_the_table_shows_every_metric_and_the_slices_that_fit() -> None:
    row = MetricRow("m0", "all", 0.5, 9, 1.0, None, None, None, 0.95, "", "fraction", True, False, "", None)  # fmt: skip
    rows = [
        replace(row, metric=f"m{metric}", slice=part)
        for metric in range(4)
        for part in ("all", *(f"lang={n}" for n in range(9)))
    ]
    lines = list(metric_lines(rows))
    assert [line.split()[0] for line in lines if line.startswith("m")] == [
        "metric",
        "m0",
        "m1",
        "m2",
        "m3",
    ]
    assert len(lines) == 1 + SHOWN_ROWS + 1
    assert lines[-1] == "and 10 slices more in metrics.parquet"


def test_the_same_evaluation_is_not_done_twice(make_job: MakeJob) -> None:
    job = load_job(make_job(ROWS[:3], evaluate=EVALUATE))
    first = run(job)
    before = first.folder.metrics.stat().st_mtime_ns
    second = run(job)
    assert second.folder.metrics.stat().st_mtime_ns == before
    assert second.metrics == first.metrics


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"reference": "rigth"}, "evaluate.reference", "column 'rigth' is not among"),
        ({"slices": ["lang", "land"]}, "evaluate.slices[1]", "column 'land'"),
        (
            {"gates": [{"metric": "exakt", "min": 1}]},
            "evaluate.gates[0].metric",
            "the job has no metric called 'exakt'",
        ),
        (
            {"gates": [{"metric": "exact", "min": 1, "slice": "lng=zh"}]},
            "evaluate.gates[0].slice",
            "evaluate.slices does not define the slice 'lng=zh'",
        ),
        (
            {"metrics": [{"type": "exact", "where": "lag = 'zh'"}]},
            "evaluate.metrics[0].where",
            "column 'lag' is not in the output",
        ),
    ],
)
def test_errors_about_columns_have_the_line_of_their_key(
    make_job: MakeJob, change: dict[str, Any], key: str, words: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        run(load_job(make_job(ROWS, evaluate=EVALUATE | change)))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert words in problem.message
    assert problem.line > 0


@pytest.mark.parametrize(
    ("gate", "hint"),
    [
        ({"min": 80}, "For 80 %, write 0.8."),
        ({"max": 60.5, "slice": "lang=zh", "on": "ci_high"}, "For 60.5 %, write 0.605."),
        ({"max_drop": 2, "baseline": "previous"}, "For 2 %, write 0.02."),
        ({"max": -0.5}, "Write a number from 0 to 1."),
        ({"min": 1000}, "Write a number from 0 to 1."),
    ],
)
def test_a_gate_on_a_fraction_is_out_of_range(
    make_job: MakeJob, gate: dict[str, Any], hint: str
) -> None:
    gates = [{"metric": "exact"} | gate]
    key = next(iter(gate))
    with pytest.raises(JobFileError) as caught:
        check_input(load_job(make_job(ROWS, evaluate=EVALUATE | {"gates": gates})))
    (problem,) = caught.value.problems
    assert problem.key == f"evaluate.gates[0].{key}"
    assert problem.message == f"{gate[key]:g} is out of range: exact is a fraction from 0 to 1"
    assert problem.hint == hint
    assert problem.line > 0


def test_gates_may_be_the_ends_of_a_fraction_and_any_number_of_others(
    make_job: MakeJob,
) -> None:
    gates = [
        {"metric": "exact", "min": 0, "max": 1},
        {"metric": "length_words", "min": 80, "max": 5000},
    ]
    metrics = ["exact", {"type": "length", "units": ["words"]}]
    evaluate = EVALUATE | {"gates": gates, "metrics": metrics}
    assert check_input(load_job(make_job(ROWS, evaluate=evaluate))).source.columns


def test_columns_used_for_scoring_must_be_kept(make_job: MakeJob) -> None:
    job = make_job(ROWS, evaluate=EVALUATE, output={"path": "out", "keep_columns": ["lang"]})
    with pytest.raises(
        JobFileError, match="column 'right' is not among the columns of the answers"
    ):
        run(load_job(job))


def test_a_field_of_answers_that_are_not_parsed_is_named_with_the_key_that_parses_them(
    make_job: MakeJob,
) -> None:
    form = {"response_format": {"json_schema": {"properties": {"a": {"type": "integer"}}}}}
    job = make_job(ROWS, evaluate=EVALUATE | {"slices": ["parsed.a"]}, decoding=form)
    with pytest.raises(JobFileError, match=r"'parsed\.a' is not .*\n.*\n.*\n.*output\.parse: true"):
        check_input(load_job(job))


def gated(make_job: MakeJob, least: float, *, rows: Any = ROWS[:3]) -> Path:
    evaluate = EVALUATE | {"gates": [{"metric": "exact", "min": least}]}
    return make_job(rows, evaluate=evaluate, output={"path": "out", "publish": "gated"})


def test_a_failed_gate_exits_with_4_and_still_publishes(make_job: MakeJob) -> None:
    evaluate = EVALUATE | {"gates": [{"metric": "exact", "min": 0.9}]}
    result = run(load_job(make_job(ROWS[:3], evaluate=evaluate)))
    assert (result.outcome, result.exit_code) == ("done", ExitCode.GATE_FAILED)
    assert result.folder.manifest.exists()


def test_a_failed_gate_leaves_the_previous_answers_in_place(make_job: MakeJob) -> None:
    good = run(load_job(gated(make_job, 0.5)))
    assert good.exit_code == ExitCode.DONE
    before = {p.name: p.read_bytes() for p in good.folder.path.iterdir() if p.is_file()}
    worse = [row | {"right": "other"} for row in ROWS[:3]]
    bad = run(load_job(gated(make_job, 0.5, rows=worse)), start="fresh")
    assert (bad.outcome, bad.exit_code) == ("withheld", ExitCode.GATE_FAILED)
    after = {p.name: p.read_bytes() for p in bad.folder.path.iterdir() if p.is_file()}
    assert after == before
    with pytest.raises(StateError, match="withheld"):
        bad.frame()
    staged = pl.read_parquet(bad.folder.staged / "responses.parquet")
    assert staged["right"].to_list() == ["other"] * 3


def test_withheld_answers_are_published_once_the_gate_passes(make_job: MakeJob) -> None:
    job = gated(make_job, 0.9)
    held = run(load_job(job))
    assert held.outcome == "withheld"
    assert not held.folder.responses.exists()
    shown = CliRunner().invoke(cli, ["show", str(held.folder.path)])
    assert "were withheld: a gate failed" in shown.stderr
    assert shown.stdout.count("answer:") == 3
    for command in (["compare", str(held.folder.path)], ["score"]):
        done = CliRunner().invoke(cli, [*command, str(held.folder.path)])
        assert isinstance(done.exception, UsageError)
        assert "were withheld: a gate failed" in done.exception.message
        assert done.exception.hint == f"Read them in {held.folder.staged}."
    again = run(load_job(gated(make_job, 0.6)))
    assert (again.outcome, again.exit_code) == ("done", ExitCode.DONE)
    assert again.run_id == held.run_id
    assert again.frame().height == 3
    assert not again.folder.staged.exists()
    assert list(again.folder.parts.iterdir()) == []


def test_status_gives_the_reason_why_answers_are_withheld(make_job: MakeJob) -> None:
    good = run(load_job(gated(make_job, 0.5)))
    assert inspect.status(good.folder.path).state == "complete"
    job = gated(make_job, 0.9)
    held = run(load_job(job), start="fresh")
    found = inspect.status(held.folder.path)
    assert (found.state, found.run_id, found.counts.rows) == ("withheld", held.run_id, 3)
    assert found.withheld == ["gate exact >= 0.9: value 0.6667, n 3"]
    shown = CliRunner().invoke(cli, ["status", str(held.folder.path)]).stdout
    assert "withheld · 3 of 3 rows (100%)" in shown
    assert "why      withheld by gate exact >= 0.9" in shown
    new_name = held.folder.withheld
    new_name.rename(new_name.with_name("held-back.json"))  # as version 0.1 named it
    assert inspect.status(held.folder.path).withheld == found.withheld
    again = run(load_job(gated(make_job, 0.6)))
    assert again.outcome == "done"
    assert inspect.status(again.folder.path).state == "complete"


def half_scored(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A good run, with one file of its new scores in place when the disk error occurred."""
    good = run(load_job(gated(make_job, 0.5)))
    monkeypatch.setenv(VARIABLE, "publish.before_rename:2=EIO")
    with pytest.raises(ResourceError):
        batchgen.score(good.folder.path, ["refusal"])
    monkeypatch.delenv(VARIABLE)
    assert good.folder.release.exists()
    assert list(verify(good.folder).issues) != []
    return good.folder


def test_a_withheld_run_completes_an_interrupted_replacement_of_scores(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = half_scored(make_job, monkeypatch)
    worse = [row | {"right": "other"} for row in ROWS[:3]]
    assert run(load_job(gated(make_job, 0.5, rows=worse)), start="fresh").outcome == "withheld"
    assert list(verify(folder).issues) == []
    assert "score_refusal" in pq.read_schema(folder.responses).names


@pytest.mark.parametrize(
    "point", ["release.half", "publish.before_rename:2", "manifest.before_rename"]
)
def test_better_answers_replace_good_ones_after_any_interruption(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    run(load_job(gated(make_job, 0.5)))
    job = load_job(gated(make_job, 0.5, rows=[{"q": "new", "right": "new", "lang": "en"}]))
    monkeypatch.setenv(VARIABLE, f"{point}=ENOSPC")
    with pytest.raises(ResourceError):
        run(job, start="fresh")
    monkeypatch.delenv(VARIABLE)
    again = run(job)
    assert again.exit_code == ExitCode.DONE
    assert again.frame()["response"].to_list() == ["new"]
    assert list(verify(again.folder).issues) == []
    assert not again.folder.staged.exists()


def test_a_damaged_release_record_is_moved_aside_with_its_files(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = half_scored(make_job, monkeypatch)
    folder.release.write_text("{}")
    job = load_job(gated(make_job, 0.5))
    with pytest.raises(StateError, match=r"release\.json is damaged") as caught:
        run(job)
    assert "--fresh" in caught.value.hint
    assert run(job, start="fresh").outcome == "done"
    assert list(verify(folder).issues) == []
    assert (folder.path.with_name("out.old-1") / "responses.parquet").exists()


def test_too_many_failed_rows_withhold_the_answers(make_job: MakeJob) -> None:
    result = run(load_job(gated(make_job, 0.1, rows=ROWS)))
    assert (result.outcome, result.exit_code) == ("withheld", ExitCode.TOO_MANY_FAILED_ROWS)
    gate, failed = inspect.status(result.folder.path).withheld
    assert failed == "failed rows: 1, allowed: 0 (run.max_error_rate: 0.01)"
    assert gate.startswith("gate exact >= 0.1: coverage 0.6, below 0.95")
    assert not result.folder.responses.exists()


def test_a_changed_function_in_the_folder_of_the_job_scores_again(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    scored: list[float] = []
    evaluate = {"metrics": [{"type": "python", "file": "mine.py", "function": "score"}]}
    job = make_job([{"q": "one"}], evaluate=evaluate)
    for value in (1.0, 0.25):
        (tmp_path / "mine.py").write_text(f"def score(answer):\n    return {value}\n")
        frame = run(load_job(job)).frame()
        scored += frame.select(pl.col("^score_.*$")).to_series().to_list()
    assert scored == [1.0, 0.25]
