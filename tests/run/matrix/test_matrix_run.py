"""Runs of a matrix, from the command line: folders, resuming, kills, failing runs, the loaded engine, comparison."""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.engines.contract import Engine
from batchgen.engines.engine_registry import open_engine
from batchgen.errors import ExitCode
from batchgen.jobfile.matrix.load_matrix import LoadedMatrix, load_matrix
from batchgen.records import Completion, Request
from batchgen.run.matrix.kept_engine import COUNTED_RUNS
from batchgen.run.matrix.matrix_result import most_severe
from batchgen.run.matrix.matrix_run import run_matrix
from batchgen.state.matrix_record import read_matrix_record
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import VARIABLE

MakeJob = Callable[..., Path]
ROWS = [{"q": f"question {n}", "gold": f"A question {n}"} for n in range(30)]
SCORED = {"evaluate": {"reference": "gold", "metrics": ["contains"]}}
LENGTHS = "decoding.max_new_tokens=[5, 100]"
PROMPTS = "prompt.user=['A {{ q }}', 'B {{ q }}']"


def matrix_of(path: Path, *options: str) -> LoadedMatrix:
    loaded = load_matrix(path, options=options)
    assert loaded is not None
    return loaded


def last_json(text: str) -> Any:
    return json.loads(text.splitlines()[-1])


def test_all_combinations_are_run_and_compared_with_the_first(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS, **SCORED))
    assert call(["run", job, "--matrix", PROMPTS, "--matrix", LENGTHS, "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    assert [one["settings"] for one in found["runs"]] == [
        {"prompt.user": prompt, "decoding.max_new_tokens": most}
        for prompt in ("A {{ q }}", "B {{ q }}")
        for most in (5, 100)
    ]
    for one in found["runs"]:
        answers = pl.read_parquet(Path(found["output"]) / one["name"] / "responses.parquet")
        most = one["settings"]["decoding.max_new_tokens"]
        prompt = one["settings"]["prompt.user"].replace("{{ q }}", "question 7")
        assert answers["response"][7] == (prompt if most == 100 else prompt[: most - 1])
        assert len(answers) == 30
    first = str(Path(found["output"]) / found["runs"][0]["name"])
    assert [one["base"] for one in found["comparisons"]] == [first] * 3
    better = found["comparisons"][0]["metrics"][0]
    assert (better["base"], better["new"], better["verdict"]) == (0.0, 1.0, "better")
    assert {one["common"] for one in found["comparisons"]} == {30}
    assert [one["changed_prompts"]["count"] for one in found["comparisons"]] == [0, 30, 30]


def test_p_is_adjusted_over_all_runs(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    """As `compare A B C` does."""
    job = str(make_job(ROWS, **SCORED))
    assert call(["run", job, "--matrix", "decoding.max_new_tokens=[5, 100, 101]"]) == 0
    table = capsys.readouterr().out
    assert "p is adjusted for all primary metrics of all runs (Holm)" in table
    runs = [str(Path(job).parent / "out" / f"max_new_tokens-{most}") for most in (5, 100, 101)]
    assert call(["compare", *runs]) == 0
    assert capsys.readouterr().out == table


def test_a_second_start_skips_complete_runs_and_adds_new_values(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS))
    assert call(["run", job, "--matrix", "run.seed=[1, 2]", "--json"]) == 0
    before = last_json(capsys.readouterr().out)
    assert call(["run", job, "--matrix", "run.seed=[2, 3, 1]", "--json"]) == 0
    after = last_json(capsys.readouterr().out)
    outcome = {one["name"]: one["result"]["outcome"] for one in after["runs"]}
    assert outcome == {"seed-2": "already complete", "seed-3": "done", "seed-1": "already complete"}
    ids = {one["name"]: one["result"]["run_id"] for one in before["runs"]}
    assert ids.items() <= {one["name"]: one["result"]["run_id"] for one in after["runs"]}.items()


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["part.after_link:2", "matrix.after_rename", "manifest.before_rename"]
)
def test_a_kill_in_the_middle_loses_nothing(make_job: MakeJob, point: str) -> None:
    job = make_job(ROWS, batching={"part_rows": 10}, matrix={"run.seed": [1, 2, 3]})
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--json"]
    assert call([*command[3:-1], "-q", "--matrix", "run.seed=[1]"]) == 0
    killed = subprocess.run(
        command, capture_output=True, env={**os.environ, VARIABLE: point}, check=False
    )
    assert killed.returncode == -9, killed.stderr
    parts = {path: path.read_bytes() for path in (job.parent / "out").rglob("*.bgpart")}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = last_json(done.stdout)
    assert [one["result"]["rows"]["ok"] for one in found["runs"]] == [30, 30, 30]
    resumed = sum(one["result"]["rows"]["resumed"] for one in found["runs"])
    assert resumed >= 30 + 10 * len(parts)
    for one in found["runs"]:
        answers = pl.read_parquet(job.parent / "out" / one["name"] / "responses.parquet")
        assert answers["id"].to_list() == [str(n) for n in range(30)]


def test_a_run_that_fails_hides_no_other(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = {"evaluate": {**SCORED["evaluate"], "gates": [{"metric": "contains", "min": 0.5}]}}
    job = str(make_job(ROWS, **gate))
    options = ["--matrix", LENGTHS, "--matrix", "prompt.max_input_tokens=[3, 99]", "--json"]
    assert call(["run", job, "--set", "prompt.user=A {{ q }}", *options]) == 3
    printed = capsys.readouterr()
    found = last_json(printed.out)
    codes = {one["name"]: one["exit_code"] for one in found["runs"]}
    assert codes == {
        "max_new_tokens-5_max_input_tokens-3": 3,
        "max_new_tokens-5_max_input_tokens-99": 4,
        "max_new_tokens-100_max_input_tokens-3": 3,
        "max_new_tokens-100_max_input_tokens-99": 0,
    }
    assert "matrix 4 runs: 3 of 4 did not end well: exit code 3 in " in printed.err
    assert "  4   max_new_tokens-5_max_input_tokens-99    done: 30 of 30 ok · gate " in printed.err
    assert "  0   max_new_tokens-100_max_input_tokens-99  done: 30 of 30 ok\n" in printed.err


def test_a_run_of_another_job_is_named_and_the_others_run(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, matrix={"run.seed": [1]})
    assert call(["run", str(job)]) == 0
    make_job(ROWS, matrix={"run.seed": [1, 2]}, decoding={"max_new_tokens": 9})
    capsys.readouterr()
    assert call(["run", str(job), "--json"]) == 6
    found = last_json(capsys.readouterr().out)
    assert [one["exit_code"] for one in found["runs"]] == [6, 0]
    assert "was made by another job: decoding.max_new_tokens" in found["runs"][0]["error"]


def test_the_most_severe_exit_code_counts() -> None:
    done, again, failed = ExitCode.DONE, ExitCode.RUN_AGAIN, ExitCode.TOO_MANY_FAILED_ROWS
    assert most_severe([]) == done
    assert most_severe([done, ExitCode.GATE_FAILED]) == ExitCode.GATE_FAILED
    assert most_severe([ExitCode.GATE_FAILED, failed]) == failed
    assert most_severe([failed, again]) == again
    assert most_severe([again, ExitCode.ENVIRONMENT, ExitCode.STATE]) == ExitCode.STATE
    assert {*ExitCode} == {most_severe([code]) for code in ExitCode}


def test_a_deadline_ends_the_matrix_with_75(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, matrix={"run.seed": [1, 2]}, run={"max_runtime": "0s"})
    assert call(["run", str(job)]) == 75
    assert "run.max_runtime (0s) is over" in capsys.readouterr().err
    assert call(["status", str(job.parent / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"test  0 of 2 runs complete in {job.parent / 'out'}",
        "not begun  seed-1",
        "not begun  seed-2",
        "next     repeat the same command to continue",
    ]
    assert call(["run", str(job), "--set", "run.max_runtime=null", "-q"]) == 0
    capsys.readouterr()
    assert call(["status", str(job.parent / "out"), "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    assert [(one["state"], one["counts"]["rows"]) for one in found["runs"]] == [
        ("complete", 30)
    ] * 2


def test_a_stopped_matrix_of_yesterday_is_resumed(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, matrix={"run.seed": [1, 2]}, output={"path": "out/${date}"})
    today = dt.datetime.now().astimezone().date()
    day = str(today - dt.timedelta(1))
    stop = ["--set", "run.max_runtime=0s"]
    assert call(["run", str(job), "--date", day, *stop]) == 75
    capsys.readouterr()
    assert call(["run", str(job)]) == 0
    assert f"resuming the stopped matrix of {day} in " in capsys.readouterr().err
    assert (job.parent / "out" / day / "seed-2" / "manifest.json").exists()
    assert call(["run", str(job)]) == 0
    assert (job.parent / "out" / str(today) / "seed-1" / "manifest.json").exists()


class Counted:
    """Opens the echo engine; counts open and closed engines, and fails while it answers a row."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.opened, self.closed, self.rows, self.fail_at = 0, 0, 0, fail_at

    def __call__(self, *arguments: Any, **options: Any) -> Engine:
        self.opened += 1
        counts, inner = self, open_engine(*arguments, **options)

        class Wrapped:
            name = inner.name
            likelihoods, in_flight, facts = inner.likelihoods, inner.in_flight, inner.facts

            def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
                for completion in inner.generate(requests):
                    counts.rows += 1
                    if counts.rows == counts.fail_at:
                        raise MemoryError("no memory")
                    yield completion

            def close(self) -> None:
                counts.closed += 1
                inner.close()

        return Wrapped()


def test_the_engine_is_opened_once_for_runs_with_the_same_model(make_job: MakeJob) -> None:
    job = make_job(ROWS, matrix={"model.max_model_len": [400, 500], "run.seed": [1, 2, 3]})
    opener = Counted()
    result = run_matrix(matrix_of(job), opener=opener)
    assert result.exit_code == 0
    assert (opener.opened, opener.closed) == (2, 2)
    facts = [one.result.engine.get(COUNTED_RUNS) for one in result.runs if one.result]
    assert facts == [None, 2, 3, None, 2, 3]


def test_all_are_checked_before_the_first_row(make_job: MakeJob) -> None:
    job = make_job(ROWS, matrix={"prompt.user": ["{{ q }}", "{{ nothing }}"], "run.seed": [1, 2]})
    opener = Counted()
    with pytest.raises(
        Exception,
        match=r"in the combination prompt\.user=\{\{ nothing \}\}, run\.seed=1 and 1 more",
    ):
        run_matrix(matrix_of(job), opener=opener)
    assert opener.opened == 0
    assert not (job.parent / "out").exists()
    assert call(["validate", str(job)]) == 2


def test_a_fresh_start_that_was_killed_goes_on_replacing(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS, matrix={"run.seed": [1, 2]}))
    assert call(["run", job, "--json"]) == 0
    old = [one["result"]["run_id"] for one in last_json(capsys.readouterr().out)["runs"]]
    assert call(["run", job, "--fresh", "--set", "run.max_runtime=0s", "--json"]) == 75
    record = read_matrix_record(RunFolder(Path(job).parent / "out"))
    assert record is not None
    assert [*record.replaced.values()] == old
    capsys.readouterr()
    for outcome in ("done", "already complete"):
        assert call(["run", job, "--json"]) == 0
        found = last_json(capsys.readouterr().out)["runs"]
        assert [one["result"]["outcome"] for one in found] == [outcome] * 2
        assert not {one["result"]["run_id"] for one in found} & {*old}


def test_answers_are_reused_from_the_run_with_the_same_name(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS))
    assert call(["run", job, "--matrix", "run.seed=[1, 2]", "-q"]) == 0
    make_job([*ROWS, {"q": "new", "gold": "x"}])
    again = ["run", job, "-o", str(tmp_path / "again"), "--matrix", "run.seed=[1, 2, 3]", "--json"]
    assert call([*again, "--incremental-from", str(tmp_path / "out")]) == 0
    runs = last_json(capsys.readouterr().out)["runs"]
    reused = [(one["result"]["incremental"] or {}).get("reused") for one in runs]
    assert reused == [30, 30, None]
    assert call([*again, "--incremental-from", "latest"]) == 2


@pytest.mark.parametrize("share", [["--shard", "0/2"], ["--merge"], ["--ray", "local"]])
def test_a_matrix_is_not_shared(
    make_job: MakeJob, share: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(ROWS, matrix={"run.seed": [1, 2]})
    assert call(["run", str(job), *share]) == 2
    assert f"{share[0]} and a matrix exclude each other" in capsys.readouterr().err


def test_a_matrix_and_a_run_do_not_share_a_folder(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS))
    assert call(["run", job, "-q"]) == 0
    assert call(["run", job, "--matrix", "run.seed=[1]"]) == 6
    assert (
        "contains a run; the runs of a matrix need a folder of their own" in capsys.readouterr().err
    )
    other = str(Path(job).parent / "other")
    assert call(["run", job, "-o", other, "--matrix", "run.seed=[1]", "-q"]) == 0
    assert call(["run", job, "-o", other]) == 6
    assert "contains the runs of a matrix" in capsys.readouterr().err
    assert call(["show", other]) == 2
    assert "contains the runs of a matrix; expected one run" in capsys.readouterr().err


def test_two_starts_at_once_are_refused(make_job: MakeJob) -> None:
    from batchgen.errors import LockedError
    from batchgen.state.lock import hold_lock

    job = make_job(ROWS, matrix={"run.seed": [1, 2]})
    folder = RunFolder(job.parent / "out")
    folder.create()
    with hold_lock(folder.lock), pytest.raises(LockedError):
        run_matrix(matrix_of(job))


def test_plan_shows_each_run_and_the_total(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = str(make_job(ROWS, matrix={"decoding.max_new_tokens": [5, 100]}))
    assert call(["plan", job]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {line[0]: line[1:] for line in table if line}
    one, other, total = (rows[name] for name in ("max_new_tokens-5", "max_new_tokens-100", "total"))
    assert (one[0], one[2], one[3]) == ("30", "150", "new")
    assert (other[0], other[2]) == ("30", "3,000")
    assert total == ["60", f"{2 * int(one[1]):,}", "3,150"]
    assert call(["plan", job, "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    assert [run["rows"] for run in found["runs"]] == [30, 30]
    assert not (Path(job).parent / "out").exists()


@pytest.mark.slow
def test_one_report_compares_all_runs(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    varied = {"decoding.max_new_tokens": [5, 100]}
    prompt = {"user": "A {{ q }}"}
    job = make_job(ROWS, **SCORED, prompt=prompt, output={"report": True}, matrix=varied)
    files = ["--markdown", str(job.parent / "x.md"), "--junit", str(job.parent / "x.xml")]
    assert call(["run", str(job), *files]) == 0
    page = (job.parent / "out" / "report.html").read_text("utf-8")
    assert "max_new_tokens-100" in page
    assert "<svg" in page
    assert str(job.parent / "out" / "report.html") in capsys.readouterr().err
    assert "**better**" in (job.parent / "x.md").read_text("utf-8")
    assert 'classname="max_new_tokens-5"' in (job.parent / "x.xml").read_text("utf-8")
