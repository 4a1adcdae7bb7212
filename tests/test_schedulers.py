"""The scripts in jobs/schedulers run as a scheduler runs them: by bash, with its variables, and `batchgen` on PATH."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

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
