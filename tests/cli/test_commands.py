"""The commands as users see them: what they print, where, and their exit codes."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest

from batchgen.__main__ import call
from batchgen.cli import cli

MakeJob = Callable[..., Path]


@pytest.fixture
def answered(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> Path:
    """The folder of a finished run of three rows, the second of which failed."""
    job = make_job(
        [{"id": "a", "q": "first"}, {"id": "b", "q": ""}, {"id": "c", "q": "\x1b[2Jthird"}],
        run={"max_error_rate": 1},
    )
    assert call(["run", str(job), "-q"]) == 0
    capsys.readouterr()
    return job.parent / "out"


def test_run_prints_its_report_on_stderr_and_logs_no_answers(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job([{"q": "first"}, {"q": "second"}, {"q": "third"}])
    assert call(["run", str(job)]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"done   3 rows in \d", err)
    assert f"wrote  {job.parent / 'out'}" in err
    assert out == ""


def test_run_json_is_the_last_line_of_stdout(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job([{"q": "first"}, {"q": ""}], run={"max_error_rate": 1})
    assert call(["run", str(job), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["ok"] is True
    assert printed["rows"] == {"total": 2, "ok": 1, "failed": 1, "skipped": 0, "resumed": 0}
    assert printed["output"] == str(job.parent / "out")


def test_quiet_prints_nothing(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(make_job()), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_failed_rows_end_with_3(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(make_job([{"q": ""}, {"q": "x"}])), "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["exit_code"] == 3
    assert "0 allowed (run.max_error_rate: 0.01): exit code 3" in err
    assert "batchgen status" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["run", "nowhere.yaml"], 2, "nowhere.yaml", id="no such job"),
        pytest.param(["run", "JOB", "--date", "tomorrow"], 2, "2026-11-23", id="date"),
        pytest.param(["run", "JOB", "--set", "decoding.temprature=1"], 2, "temperature", id="set"),
        pytest.param(["run", "JOB", "--profile", "x"], 2, "no profile 'x'", id="profile"),
        pytest.param(["run", "JOB", "--limit", "0"], 2, "0 is not in the range", id="limit"),
        pytest.param(["runn", "JOB"], 2, "No such command", id="command"),
        pytest.param(["show", "JOB"], 2, "expected a Parquet file", id="show"),
        pytest.param(["status", "nowhere"], 2, "nowhere does not exist", id="status"),
        pytest.param(["run", "JOB", "--set", "input.path=gone.csv"], 5, "gone.csv", id="input"),
        pytest.param(["run", "JOB", "--set", "prompt.user={{ promt }}"], 2, "promt", id="column"),
        pytest.param(["run", "JOB", "--set", "model={path: ./gone}"], 5, "gone", id="model folder"),
        pytest.param(["run", "JOB", "-o", "/proc/x"], 5, "/proc/x", id="output"),
        pytest.param(
            ["schema", "-o", "/nope/x"], 2, "cannot write /nope/x: No such file", id="schema"
        ),
        pytest.param(
            ["schema", "-o", "."], 2, "cannot write .: Is a directory", id="schema folder"
        ),
        pytest.param(["models", "get", "demo:gone"], 5, "smollm2-135m", id="demo model"),
    ],
)
def test_errors_name_their_cause(
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    job = str(make_job())
    assert call([job if a == "JOB" else a for a in arguments]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err + out


def test_failures_are_json_too(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", str(make_job()), "--set", "input.path=gone.csv", "--json"]) == 5
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["ok"] is False
    assert printed["exit_code"] == 5
    assert "gone.csv" in printed["error"]


def test_limit_writes_to_a_separate_folder(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job([{"q": "a"}, {"q": "b"}, {"q": "c"}])
    assert call(["run", str(job), "--limit", "2", "-q"]) == 0
    assert call(["run", str(job), "-q"]) == 0
    assert call(["run", str(job), "--limit", "1", "--output", str(job.parent / "own"), "-q"]) == 0
    heights = {
        name: pl.read_parquet(job.parent / name / "responses.parquet").height
        for name in ("out-limit-2", "out", "own")
    }
    assert heights == {"out-limit-2": 2, "out": 3, "own": 1}
    capsys.readouterr()


@pytest.mark.parametrize("name", ["it's", "a ${b}", "${date}", "space d", '"q"'])
def test_output_folders_may_have_any_name(make_job: MakeJob, name: str) -> None:
    job = make_job([{"q": "a"}, {"q": "b"}])
    folder = job.parent / name
    assert call(["run", str(job), "-o", str(folder), "-q"]) == 0
    assert (folder / "responses.parquet").exists()


def test_a_resumed_run_keeps_its_date(make_job: MakeJob) -> None:
    job = make_job(vars={"day": "x"}, description="of ${date}")
    assert call(["run", str(job), "-q", "--date", "2026-01-31"]) == 0
    stored = json.loads((job.parent / "out" / ".batchgen" / "run.json").read_text())
    assert stored["date"] == "2026-01-31"
    assert call(["run", str(job), "-q"]) == 0
    named = make_job(output={"path": "out-${date:%Y%m%d}"})
    assert call(["run", str(named), "-q", "--date", "2026-01-31"]) == 0
    assert (job.parent / "out-20260131" / "responses.parquet").exists()


def test_plan_shows_the_settings_and_their_origin(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(
        [{"q": "one", "unused": 1}, {"q": ""}], decoding={"max_new_tokens": 32, "stop": ["\n\n"]}
    )
    assert call(["plan", str(job), "--set", "decoding.temperature=0.5"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"Input .*rows\.jsonl\n +2 rows · jsonl", out)
    assert "columns not in the prompts: unused" in out
    assert "Prompt    no model: the messages as UTF-8 bytes" in out
    assert "rows that will fail: 1 prompt_empty" in out
    assert "temperature 0.5 (--set)" in out
    assert "max_new_tokens 32 (job)" in out
    assert "stop_strings '\\n\\n' (job)" in out
    assert re.search(r"Batches +1 of up to 1 row · padding 0% \(unsorted: 0%\)", out)
    assert "prompt 1 of 1 · id 0" in out
    assert out.rstrip().endswith(f"Next: batchgen run {job} -s decoding.temperature=0.5")
    assert not (job.parent / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-p", "zh"],
        ["--profile", "zh", "-s", "prompt.user=it's {{ q }}", "--set", "run.seed=1"],
        ["-n", "1", "-o", "with space"],
        ["--date", "2026-01-31", "--output=-x"],
    ],
)
@pytest.mark.parametrize("command", ["validate", "plan", "run --dry-run --fresh"])
def test_the_next_command_has_every_option_that_was_given(
    make_job: MakeJob,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    options: list[str],
) -> None:
    job = make_job(profiles={"zh": {"run": {"seed": 2}}})
    monkeypatch.chdir(job.parent)
    name, *extra = command.split()
    assert call([name, *extra, "job.yaml", *options]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    following = shlex.split(last.split(maxsplit=1)[1])
    assert following[:3] == ["batchgen", "plan" if name == "validate" else "run", "job.yaml"]
    assert ("--fresh" in following) == ("--fresh" in extra)
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    meant = found.make_context(name, ["job.yaml", *options]).params
    again = found.make_context(name, [w for w in following[2:] if w != "--fresh"]).params
    assert again == meant


def test_a_profile_of_the_environment_is_in_the_next_command(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(profiles={"zh": {"run": {"seed": 2}}})
    monkeypatch.setenv("BATCHGEN_PROFILE", "zh")
    assert call(["plan", str(job)]) == 0
    assert capsys.readouterr().out.endswith(f"Next: batchgen run {job} -p zh\n")


def test_a_missing_input_does_not_hide_an_unknown_engine(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(input={"path": "gone.csv"}, model={"engine": "ecko"})
    for command in ("validate", "plan", "run"):
        assert call([command, str(job)]) == 2
        err = capsys.readouterr().err
        assert "unknown engine 'ecko'" in err
        assert "gone.csv: no such file" in err


def test_plan_reports_that_run_would_reject_the_folder(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    assert call(["run", str(job), "-q"]) == 0
    assert call(["run", str(job), "--dry-run", "--set", "run.seed=3"]) == 0
    out = capsys.readouterr().out
    assert "`run` will reject it" in out
    assert "run.seed was 0, is 3" in out
    assert "Next:" not in out
    assert call(["plan", str(job), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is True
    assert printed["output"]["state"] == "complete"


def test_validate(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job()
    assert call(["validate", str(job), "--show"]) == 0
    out = capsys.readouterr().out
    assert "max_new_tokens: 256" in out
    assert out.endswith(f"ok    {job} · job test · input jsonl\nnext  batchgen plan {job}\n")
    broken = make_job(
        prompt={"user": "{{ a }} {{ b }}"},
        decoding={"temperature": 1, "columns": {"top_k": "k"}},
    )
    assert call(["validate", str(broken)]) == 2
    err = capsys.readouterr().err
    assert re.search(rf"{re.escape(str(broken))}:\d+:\d+: ", err)
    assert err.count("not in the input") >= 2


def test_status_names_failures_by_code_and_id(
    answered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["status", str(answered)]) == 0
    out = capsys.readouterr().out
    assert "complete · 3 of 3 rows (100%) · 1 failed" in out
    assert "1 prompt_empty · e.g. b" in out
    assert out.endswith(f"next     batchgen show {answered} --failed\n")
    assert call(["status", str(answered), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"][0]["examples"] == ["b"]


def test_show_escapes_control_characters(
    answered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["show", str(answered), "--row", "c"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[2Jthird" in out
    assert call(["show", str(answered), "--failed", "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert (answer["id"], answer["error_code"]) == ("b", "prompt_empty")
    assert call(["show", str(answered), "--row", "zzz"]) == 2
    capsys.readouterr()
    assert call(["show", str(answered), "--failed", "--row", "c"]) == 0
    assert capsys.readouterr() == ("", "no such rows\n")


def test_an_incomplete_run_shows_how_to_resume_and_an_empty_result_is_a_message(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job([{"q": "a"}, {"q": "b"}])
    out = str(job.parent / "out")
    # In another process: its lock would be held by this one, which is alive.
    stopped = [sys.executable, "-m", "batchgen", "run", str(job), "--set", "run.max_runtime=0s"]
    assert subprocess.run(stopped, capture_output=True, check=False).returncode == 75
    assert call(["status", out]) == 0
    assert capsys.readouterr().out.endswith(
        "next     repeat the same `batchgen run` to complete it\n"
    )
    assert call(["run", str(job), "-q"]) == 0
    assert call(["run", str(job)]) == 0
    assert f"output {out}\n" in capsys.readouterr().err
    assert call(["show", out, "--failed"]) == 0
    assert capsys.readouterr() == ("", "no such rows\n")
    assert call(["purge", out]) == 0
    assert call(["purge", out]) == 0
    assert capsys.readouterr().out.endswith("nothing to delete\n")


def test_schema_is_json_or_the_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith(
        "http://json-schema.org/draft-07"
    )
    page = tmp_path / "page.md"
    assert call(["schema", "--format", "markdown", "--output", str(page)]) == 0
    assert "max_new_tokens" in page.read_text("utf-8")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--help"]) == 0
    out = capsys.readouterr().out
    for command in cli.list_commands(click.Context(cli)):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)
        assert call([command, "--help"]) == 0


@pytest.mark.slow
def test_ctrl_c_saves_the_answers_and_ends_by_the_signal(make_job: MakeJob) -> None:
    job = make_job([{"q": "x" * 50}] * 20_000, batching={"part_rows": 100})
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "batchgen", "run", str(job)]
    parts = job.parent / "out" / ".batchgen" / "parts"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while not (parts.exists() and list(parts.glob("*.json"))):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert "once more to stop at once" in err
    assert re.search(r"STOPPED [\d,]+ of 20,000 rows are saved", err)
    printed: dict[str, Any] = json.loads(
        subprocess.run(
            [*command, "--json", "-q"], capture_output=True, check=True, text=True
        ).stdout.splitlines()[-1]
    )
    assert printed["rows"]["resumed"] >= 100
    assert printed["rows"]["ok"] == 20_000


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("rnu", "Did you mean 'run'?"),
        ("stauts", "Did you mean 'status'?"),
        ("Validte", "Did you mean 'validate'?"),
        ("modle", "Did you mean 'models'?"),
        ("nightly.yaml", "Did you mean `batchgen run nightly.yaml`?"),
        ("nightly.yml", "Did you mean `batchgen run nightly.yml`?"),
        ("zzzzz", None),
    ],
)
def test_an_unknown_command_has_the_nearest_one_as_its_hint(
    capsys: pytest.CaptureFixture[str], word: str, hint: str | None
) -> None:
    assert call([word]) == 2
    error = capsys.readouterr().err
    assert f"No such command {word!r}." in error
    assert (hint in error) if hint else ("Did you mean" not in error)


def test_hints_about_folders_name_what_to_do(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    assert call(["run", str(make_job()), "-o", str(tmp_path / "file" / "out")]) == 5
    error = capsys.readouterr().err
    assert f"cannot create the output folder {tmp_path / 'file' / 'out'}" in error
    assert f"{tmp_path / 'file'} is a file; expected a folder" in error
    assert "Move it away, or choose another folder with --output FOLDER." in error
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("x")
    assert call(["models", "check", str(tmp_path / "notes")]) == 5
    error = capsys.readouterr().err
    assert f"{tmp_path / 'notes'}: not a model folder: no config.json; found readme.txt" in error
    assert "Give the folder that contains config.json, the weights (*.safetensors)" in error


@pytest.mark.parametrize("home", [None, "", "/nonexistent"])
def test_a_run_without_a_model_needs_no_home(make_job: MakeJob, home: str | None) -> None:
    job = make_job([{"q": "first"}])
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    environment |= {} if home is None else {"HOME": home}
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", "run", str(job)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert pl.read_parquet(job.parent / "out" / "responses.parquet")["response"].to_list() == [
        "first"
    ]
