"""The scripts in jobs/schedulers run as a scheduler runs them: by bash, with its variables, and `batchgen` on PATH."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from batchgen.errors import ExitCode
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from tests.conftest import ROOT

SCHEDULERS = ROOT / "jobs" / "schedulers"
OF_THE_RUN = ("run_id", "created_at")


@pytest.fixture
def job(make_job: Callable[..., Path]) -> Path:
    return make_job([{"q": f"question {n}"} for n in range(40)], batching={"part_rows": 5})


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder for PATH: `batchgen` of this checkout, and a `scontrol` that notes what it was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "batchgen": f'exec {sys.executable} -m batchgen "$@"',
        "scontrol": f'echo "$@" >> {tmp_path}/requeued',
    }
    for name, line in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def bash(
    commands: Path, arguments: list[str], env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    path = {"PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", *arguments],
        env={**os.environ, **path, **env},
        cwd=commands.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def slurm(index: int) -> dict[str, str]:
    return {"SLURM_ARRAY_TASK_ID": str(index), "SLURM_ARRAY_JOB_ID": "7", "SHARDS": "2"}


@pytest.mark.soak
def test_a_slurm_array_makes_the_rows_of_a_single_process(job: Path, commands: Path) -> None:
    shards, merge = str(SCHEDULERS / "slurm-shards.sh"), str(SCHEDULERS / "slurm-merge.sh")
    stopped = bash(commands, [shards, str(job), "--set", "run.max_runtime=0s"], slurm(0))
    assert stopped.returncode == 75, stopped.stderr
    assert (commands.parent / "requeued").read_text() == "requeue 7_0\n"
    for index in range(2):
        ended = bash(commands, [shards, str(job)], slurm(index))
        assert ended.returncode == 0, ended.stderr
    assert bash(commands, [merge, str(job)], {}).returncode == 0
    whole = run(job.rename(job.with_name("again.yaml")))
    assert whole.outcome == "already complete"
    assert whole.counts.rows == 40


def test_slurm_asks_for_as_many_tasks_as_there_are_shards() -> None:
    text = (SCHEDULERS / "slurm-shards.sh").read_text()
    assert "#SBATCH --array=0-15\n" in text
    assert "SHARDS=${SHARDS:-16}\n" in text


@pytest.mark.slow
def test_a_stopped_run_is_queued_again_on_one_node(job: Path, commands: Path) -> None:
    script, env = str(SCHEDULERS / "slurm-run.sh"), {"SLURM_JOB_ID": "9"}
    stopped = bash(commands, [script, str(job), "--set", "run.max_runtime=0s"], env)
    assert stopped.returncode == 75, stopped.stderr
    assert (commands.parent / "requeued").read_text() == "requeue 9\n"
    assert bash(commands, [script, str(job)], env).returncode == 0
    assert (commands.parent / "requeued").read_text() == "requeue 9\n"


@pytest.mark.slow
def test_the_cron_line_runs_a_job_and_repeats_nothing(job: Path, commands: Path) -> None:
    (line,) = [
        text
        for text in (SCHEDULERS / "batchgen.cron").read_text().splitlines()
        if text[0] not in "#"
    ]
    minute, hours, *every, command = line.split(" ", 5)
    assert (minute, hours, every) == ("30", "1-6", ["*"] * 3)
    assert "%" not in command  # a line break for cron
    home = commands.parent
    job.rename(home / "nightly.yaml")
    (home / "jobs").symlink_to(home)
    (home / "venv").mkdir()
    (home / "venv" / "bin").symlink_to(commands)
    for _ in range(2):
        ended = bash(commands, ["-c", command], {"HOME": str(home)})
        assert (ended.returncode, ended.stdout) == (0, "")
    assert (home / "out" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["batchgen.service", "batchgen.timer", "batchgen-failed@.service"])
def test_systemd_accepts_the_units(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    program = shutil.which("true") or ""
    for unit in SCHEDULERS.glob("batchgen*.*r*"):
        text = unit.read_text().replace("%h/venv/bin/batchgen", program)
        (tmp_path / unit.name).write_text(text.replace("=logger", f"={program}"))
    done = subprocess.run(
        [analyze, "verify", str(tmp_path / name)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_only_a_run_that_stopped_early_is_started_again() -> None:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as the documentation of configparser states
    unit.read(SCHEDULERS / "batchgen.service")
    assert unit["Service"]["RestartForceExitStatus"] == str(int(ExitCode.RUN_AGAIN))
    assert unit["Service"].get("Restart", "no") == "no"
    command = unit["Service"]["ExecStart"].split()
    assert command[1:] == ["run", "nightly.yaml", "--quiet"]


EXIT_CODES = [(0, "done"), (75, "again"), (3, "failed")]


@pytest.mark.extra
@pytest.mark.parametrize(("code", "outcome"), EXIT_CODES)
def test_airflow_repeats_a_run_that_stopped_early(code: int, outcome: str, tmp_path: Path) -> None:
    errors = pytest.importorskip("airflow.sdk.exceptions", reason="needs apache-airflow")
    module = runpy.run_path(str(SCHEDULERS / "airflow_dag.py"))
    dag = module["batchgen_nightly"]()
    (task,) = dag.tasks
    assert task.retries == 12
    module["COMMAND"][:] = command(tmp_path, code)
    raised = {"again": errors.AirflowException, "failed": errors.AirflowFailException}
    context = pytest.raises(raised[outcome]) if code else nullcontext()
    with context as caught:
        task.python_callable(ds="2026-11-30")
    if outcome == "again":
        assert caught is not None
        assert not isinstance(caught.value, errors.AirflowFailException)
    assert (tmp_path / "arguments").read_text().split() == ["--date", "2026-11-30"]


@pytest.mark.extra
@pytest.mark.parametrize(("code", "outcome"), EXIT_CODES)
def test_dagster_repeats_a_run_that_stopped_early(code: int, outcome: str, tmp_path: Path) -> None:
    dagster = pytest.importorskip("dagster", reason="needs dagster")
    module = runpy.run_path(str(SCHEDULERS / "dagster_job.py"))
    module["COMMAND"][:] = command(tmp_path, code)
    raised = {"again": dagster.RetryRequested, "failed": dagster.Failure}
    with pytest.raises(raised[outcome]) if code else nullcontext():
        module["run"](dagster.build_op_context())
    (schedule,) = module["defs"].schedules
    assert schedule.cron_schedule == "30 1 * * *"


def command(folder: Path, code: int) -> list[str]:
    """A program that notes its arguments and ends with this exit code."""
    return ["sh", "-c", f'echo "$@" > {folder}/arguments; exit {code}', "batchgen"]


def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SCHEDULERS / "kubernetes-shards.yaml").read_text()))


def container(job: Mapping[str, Any]) -> Any:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return only


def test_an_indexed_job_has_one_pod_for_each_shard() -> None:
    shards, merge = kubernetes()
    env = {one["name"]: one["value"] for one in container(shards)["env"]}
    assert shards["kind"] == merge["kind"] == "Job"
    assert shards["spec"]["completionMode"] == "Indexed"
    assert env["SHARDS"] == str(shards["spec"]["completions"])
    assert shards["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    (codes,) = (
        rule["onExitCodes"]
        for rule in shards["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    )
    assert codes["containerName"] == container(shards)["name"]
    assert 75 not in codes["values"]
    for one in (shards, merge):
        mounted = {mount["name"] for mount in container(one)["volumeMounts"]}
        assert mounted == {volume["name"] for volume in one["spec"]["template"]["spec"]["volumes"]}


@pytest.mark.soak
def test_an_indexed_job_makes_the_rows_of_a_single_process(job: Path, commands: Path) -> None:
    shards, merge = kubernetes()
    env = {"JOB": str(job), "SHARDS": "2", "SECONDS_BETWEEN_TRIES": "0"}
    for index in range(2):
        pod = container(shards)["command"]
        assert pod[0] == "bash"
        ended = bash(commands, pod[1:], {**env, "JOB_COMPLETION_INDEX": str(index)})
        assert ended.returncode == 0, ended.stderr
    ended = bash(commands, container(merge)["command"][1:], env)
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads(RunFolder(job.parent / "out").manifest.read_text())
    assert [one["shard"] for one in manifest["engine"]["machines"]] == ["0/2", "1/2"]
