"""Comparison of runs: paired rows, rejected runs, flipped rows, and gates on a baseline."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import batchgen
from batchgen.cli import cli
from batchgen.errors import ExitCode, UsageError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import read_json

MakeJob = Callable[..., Path]
MakeRun = Callable[..., Path]


@pytest.fixture
def evaluated(make_job: MakeJob, tmp_path: Path) -> MakeRun:
    """Run a job whose rows are right or wrong as given; rows are `r0`, `r1` ..."""

    def made(name: str, right: Sequence[bool], *, ids: Sequence[str] = (), **changes: Any) -> Path:
        names = ids or [f"r{n}" for n in range(len(right))]
        rows = [
            {"id": i, "q": f"ask {i}", "gold": f"ask {i}" if good else "other"}
            for i, good in zip(names, right, strict=True)
        ]
        evaluate = {"reference": "gold", "metrics": ["exact", "length"]} | changes
        job = make_job(rows, evaluate=evaluate, output={"path": name})
        run(load_job(job))
        return tmp_path / name

    return made


def compare(*arguments: object) -> dict[str, Any]:
    """The output of `batchgen compare --json`."""
    done = CliRunner().invoke(
        cli, ["compare", *map(str, arguments), "--json"], standalone_mode=False
    )
    if done.exception is not None:
        raise done.exception
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def metric(printed: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (m for m in printed["metrics"] if m["metric"] == name)
    return dict(found)


def test_flips_are_listed_with_regressions_first(evaluated: MakeRun) -> None:
    base = evaluated("base", [True, True, False, True])
    new = evaluated("new", [False, True, True, False])
    found = metric(compare(base, new), "exact")
    assert (found["wins"], found["ties"], found["losses"]) == (1, 1, 2)
    assert (found["base"], found["new"], found["difference"]["value"]) == (0.75, 0.5, -0.25)
    assert [flip["id"] for flip in found["regressions"]] == ["r0", "r3"]
    assert [flip["id"] for flip in found["improvements"]] == ["r2"]
    assert found["verdict"] == "inconclusive"


def test_enough_rows_give_a_decision(evaluated: MakeRun) -> None:
    base, new = evaluated("base", [True] * 30), evaluated("new", [True] * 15 + [False] * 15)
    printed = compare(base, new, "--fail-if-worse", "exact")
    found = metric(printed, "exact")
    assert found["verdict"] == "worse"
    assert found["difference"]["test"] == "exact McNemar"
    assert (printed["exit_code"], printed["failed"]) == (4, ["exact is worse"])
    assert compare(new, base, "--fail-if-worse", "exact")["exit_code"] == 0


def test_a_limit_without_an_amount_keeps_the_margin(evaluated: MakeRun) -> None:
    base, new = evaluated("base", [True] * 30), evaluated("new", [True] * 29 + [False])
    printed = compare(base, new, "--margin", "exact:0.5", "--fail-if-worse", "exact")
    assert metric(printed, "exact")["verdict"] == "equivalent"


def test_rows_are_paired_by_id_without_changed_prompts(
    evaluated: MakeRun, make_job: MakeJob, tmp_path: Path
) -> None:
    base = evaluated("base", [True] * 3, ids=["a", "b", "c"])
    rows = [
        {"id": "c", "q": "ask c", "gold": "ask c"},
        {"id": "b", "q": "asked anew", "gold": "ask b"},
        {"id": "d", "q": "ask d", "gold": "ask d"},
    ]
    evaluate = {"reference": "gold", "metrics": ["exact", "length"]}
    run(load_job(make_job(rows, evaluate=evaluate, output={"path": "new"})))
    printed = compare(base, tmp_path / "new")
    assert printed["common"] == 1
    assert printed["only_base"] == {"count": 1, "ids": ["a"]}
    assert printed["only_new"] == {"count": 1, "ids": ["d"]}
    assert printed["changed_prompts"] == {"count": 1, "ids": ["b"]}
    assert metric(printed, "exact")["n"] == 1


def test_a_metric_that_was_measured_differently_is_not_compared(evaluated: MakeRun) -> None:
    base = evaluated("base", [True] * 3)
    new = evaluated("new", [True] * 3, metrics=["exact", {"type": "length", "where": "id <> 'r0'"}])
    found = metric(compare(base, new), "length_characters")
    assert found["verdict"] == "not comparable"
    assert "the definitions differ" in found["reason"]
    printed = compare(base, new, "--metric", "exact")
    assert [m["metric"] for m in printed["metrics"]] == ["exact"]


def test_p_values_are_adjusted_only_for_primary_metrics(evaluated: MakeRun) -> None:
    metrics = [{"type": "exact", "primary": True}, {"type": "exact", "name": "again"}]
    base = evaluated("base", [True] * 10, metrics=metrics)
    new = evaluated("new", [True] * 4 + [False] * 6, metrics=metrics)
    printed = compare(base, new)
    assert metric(printed, "exact")["p"] == metric(printed, "again")["p"] == pytest.approx(2 / 64)
    assert not metric(printed, "again")["primary"]
    both = [{"type": "exact"}, {"type": "exact", "name": "again"}]
    base, new = (
        evaluated(name, right, metrics=both)
        for name, right in (("base2", [True] * 10), ("new2", [True] * 4 + [False] * 6))
    )
    assert metric(compare(base, new), "exact")["p"] == pytest.approx(4 / 64)


@pytest.mark.parametrize(
    ("limit", "right", "failed"),
    [
        ("exact:0.2", [True] * 40, []),
        ("exact:0.2", [False] * 20 + [True] * 20, ["exact is worse by more than 0.2"]),
        ("exact:0.01", [False] + [True] * 39, ["exact may be worse by more than 0.01"]),
    ],
)
def test_a_gate_passes_only_if_a_loss_is_ruled_out(
    evaluated: MakeRun, limit: str, right: list[bool], failed: list[str]
) -> None:
    base, new = evaluated("base", [True] * 40), evaluated("new", right)
    printed = compare(base, new, "--fail-if-worse", limit)
    assert printed["failed"] == failed
    assert printed["exit_code"] == (4 if failed else 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "exakt"], "has no metric 'exakt'"),
        (["--fail-if-worse", "exact:much"], "expected a number of at least 0"),
        (["--fail-if-worse", "length_characters"], "has no better direction"),
        (["--margin", "exact"], "expected METRIC:BY"),
        (["--margin", "f1:0.1"], "'f1' is not a metric of both runs"),
    ],
)
def test_what_is_refused(evaluated: MakeRun, arguments: list[str], words: str) -> None:
    base, new = evaluated("base", [True]), evaluated("new", [True])
    with pytest.raises(UsageError, match=words):
        compare(base, new, *arguments)


def test_a_folder_without_scores_is_an_error_with_a_hint(make_job: MakeJob, tmp_path: Path) -> None:
    run(load_job(make_job()))
    with pytest.raises(UsageError, match="has no scores") as caught:
        compare(tmp_path / "out", tmp_path / "out")
    assert "batchgen score" in caught.value.hint


def sliced(
    make_job: MakeJob, name: str, right: Sequence[bool], *, new_tokens: int = 99, **changes: Any
) -> Path:
    """Run a job of 12 rows in two languages, sliced by language; rows are right or wrong as given."""
    rows = [
        {"id": str(n), "q": f"ask {n}", "gold": f"ask {n}" if good else "x", "lang": "数学" if n < 4 else "en"}
        for n, good in enumerate(right)
    ]  # fmt: skip
    evaluate = {"reference": "gold", "metrics": ["exact"], "slices": ["lang"]} | changes
    decoding = {"max_new_tokens": new_tokens}
    job = make_job(rows, evaluate=evaluate, decoding=decoding, output={"path": name})
    return run(load_job(job)).folder.path


def test_slices_are_compared_without_adjustment(make_job: MakeJob) -> None:
    base = sliced(make_job, "base", [True] * 12)
    new = sliced(make_job, "new", [False] * 4 + [True] * 8)
    found = metric(compare(base, new), "exact")
    parts = {part["slice"]: part["change"] for part in found["slices"]}
    assert list(parts) == ["lang=en", "lang=数学"]
    assert (parts["lang=en"]["n"], parts["lang=en"]["difference"]["value"]) == (8, 0.0)
    chinese = parts["lang=数学"]
    assert (chinese["base"], chinese["new"], chinese["losses"]) == (1.0, 0.0, 4)
    assert chinese["difference"]["p"] == pytest.approx(2 / 16)
    assert sum(part["n"] for part in parts.values()) == found["n"]
    assert found["p"] == pytest.approx(2 / 16), (
        "slices must not count among the metrics that decide"
    )


def test_a_row_is_in_its_slice_of_the_first_run(make_job: MakeJob) -> None:
    cut = [{"column": "output_tokens", "bins": [5]}]
    base = sliced(make_job, "base", [True] * 12, slices=cut)
    new = sliced(make_job, "new", [True] * 12, slices=cut, new_tokens=4)
    (part,) = metric(compare(base, new), "exact")["slices"]
    assert (part["slice"], part["change"]["n"]) == ("output_tokens=5 and up", 12)
    (part,) = metric(compare(new, base), "exact")["slices"]
    assert (part["slice"], part["change"]["n"]) == ("output_tokens=below 5", 12)


def test_noise_is_the_difference_between_two_runs_of_one_job(evaluated: MakeRun) -> None:
    base, new = evaluated("base", [True] * 8), evaluated("new", [True] * 4 + [False] * 4)
    one, other = evaluated("a", [True] * 8), evaluated("b", [True] * 7 + [False])
    found = metric(compare(base, new, "--repeat-runs", one, other), "exact")
    assert found["noise"] == {"n": 8, "flips": 1}
    shown = CliRunner().invoke(
        cli, ["compare", *map(str, (base, new, "--repeat-runs", one, other))]
    )
    assert (
        "noise: 12.5% of 8 rows differ between two runs of the same job; 50.0% here" in shown.stdout
    )
    assert metric(compare(base, new), "exact")["noise"] is None


def test_two_different_jobs_have_no_noise(evaluated: MakeRun, make_job: MakeJob) -> None:
    base = evaluated("base", [True] * 3)
    evaluate = {"reference": "q", "metrics": ["exact"]}
    job = make_job(evaluate=evaluate, decoding={"max_new_tokens": 7}, output={"path": "other"})
    other = run(load_job(job)).folder.path
    with pytest.raises(UsageError, match="are runs of different jobs"):
        compare(base, base, "--repeat-runs", base, other)


def test_the_python_api_gives_the_same_result(evaluated: MakeRun) -> None:
    base, new = evaluated("base", [True] * 30), evaluated("new", [True] * 15 + [False] * 15)
    found = batchgen.compare(str(base), new, metrics=["exact"], max_examples=2)
    (one,) = found.metrics
    assert (one.verdict, len(one.regressions), one.losses) == ("worse", 2, 15)
    assert json.loads(json.dumps(found.plain())) == {
        key: value
        for key, value in compare(base, new, "--metric", "exact", "--max-flips", 2).items()
        if key not in ("ok", "exit_code", "failed")
    }


def test_ids_of_any_type_are_paired(tmp_path: Path) -> None:
    for name, responses in (("base", ["a", "b"]), ("new", ["a", "x"])):
        moments = pa.array([10**17, 1_500], pa.timestamp("ms"))
        table = pa.table({"id": moments, "response": responses, "gold": ["a", "b"]})
        pq.write_table(table, tmp_path / "rows.parquet")
        batchgen.score(
            tmp_path / "rows.parquet", ["exact"], reference="gold", output=tmp_path / name
        )
    found = metric(compare(tmp_path / "base", tmp_path / "new"), "exact")
    assert (found["n"], found["losses"]) == (2, 1)
    assert found["regressions"][0]["id"] == "1970-01-01 00:00:01.5"


@pytest.mark.parametrize("columns", [80, 100])
def test_tables_fit_the_window(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    base, new = (
        sliced(make_job, name, right, metrics=["exact", {"type": "exact", "name": "a_name_that_is_quite_long"}])
        for name, right in (("base", [True] * 12), ("new", [False] * 4 + [True] * 8))
    )  # fmt: skip
    shown = CliRunner().invoke(cli, ["compare", str(base), str(new)]).stdout.splitlines()
    table = [
        line for line in shown if " to " in line and line.startswith(("exact ", "a_", "  lang"))
    ]
    assert len(table) == 6
    wide = {line: line.count("数") + line.count("学") for line in table}
    assert len({line.index(" to ") + more for line, more in wide.items()}) == 1
    assert max(len(line) + more for line, more in wide.items()) <= columns
    scored = CliRunner().invoke(cli, ["score", str(new)]).stdout.splitlines()
    assert max(map(len, scored)) <= columns


def test_the_table_shows_texts_only_with_the_option(evaluated: MakeRun) -> None:
    base, new = evaluated("base", [True] * 3), evaluated("new", [True, False, True])
    for options in ([], ["--show-responses"]):
        command = ["compare", str(base), str(new), *options]
        shown = CliRunner().invoke(cli, command, standalone_mode=False).stdout
        assert "id r1  1.000 -> 0.000" in shown
        assert ("ask r1" in shown) == bool(options)
        assert max(map(len, shown.splitlines())) <= 100


def gate(baseline: Path | str, drop: float) -> dict[str, Any]:
    return {"gates": [{"metric": "exact", "baseline": str(baseline), "max_drop": drop}]}


@pytest.mark.parametrize(
    ("right", "verdict", "code"),
    [
        ([True] * 40, "passed", ExitCode.DONE),
        ([True] * 38 + [False] * 2, "undecided", ExitCode.GATE_FAILED),
        ([True] * 10 + [False] * 30, "failed", ExitCode.GATE_FAILED),
    ],
)
def test_gates_on_a_baseline_rule_out_a_loss(
    evaluated: MakeRun, right: list[bool], verdict: str, code: ExitCode
) -> None:
    base = evaluated("base", [True] * 40)
    new = evaluated("new", right, **gate(base, 0.1))
    result = run(load_job(new.parent / "job.yaml"))
    (found,) = result.gates
    assert (found.verdict, result.exit_code) == (verdict, code)
    assert ("rows to decide" in found.found) == (verdict == "undecided")


def test_gates_with_a_missing_baseline_are_undecided(evaluated: MakeRun, tmp_path: Path) -> None:
    evaluated("new", [True] * 3, **gate(tmp_path / "gone", 0.1))
    result = run(load_job(tmp_path / "job.yaml"))
    assert result.gates[0].verdict == "undecided"
    assert "gone does not exist" in result.gates[0].found


def test_the_previous_output_is_a_baseline(make_job: MakeJob) -> None:
    def run_job(right: int, start: Any) -> Any:
        rows = [
            {"id": str(n), "q": f"q{n}", "gold": f"q{n}" if n < right else "x"} for n in range(40)
        ]
        evaluate = {"reference": "gold", "metrics": ["exact"], **gate("previous", 0.1)}
        output = {"path": "out", "publish": "gated"}
        return run(load_job(make_job(rows, evaluate=evaluate, output=output)), start=start)

    first = run_job(40, "resume")
    assert first.outcome == "done"
    assert first.gates[0].found == "no previous output to compare with"
    worse = run_job(10, "fresh")
    assert (worse.outcome, worse.gates[0].verdict) == ("withheld", "failed")
    good = run_job(40, "fresh")
    assert good.outcome == "done"
    assert good.run_id not in (first.run_id, worse.run_id)
    assert good.frame().height == 40


def test_scoring_again_prints_the_gates_that_it_records(make_job: MakeJob) -> None:
    rows = [{"id": str(n), "q": f"q{n}", "gold": f"q{n}", "other": "x"} for n in range(40)]

    def scored_by(reference: str) -> Any:
        evaluate = {"reference": reference, "metrics": ["exact"], **gate("previous", 0.1)}
        return run(load_job(make_job(rows, evaluate=evaluate, output={"path": "out"})))

    assert scored_by("gold").outcome == "done"
    again = scored_by("other")
    recorded = read_json(again.folder.manifest)["evaluation"]["gates"]
    # Against the previous answers, not against those that have just replaced them.
    assert [one.plain() for one in again.gates] == recorded
    assert again.exit_code == ExitCode.GATE_FAILED
