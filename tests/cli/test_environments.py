"""`batchgen run` in processes that differ from an ordinary one; with the engine echo, and with the demo model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

MakeJob = Callable[..., Path]
ROOT = str(Path(__file__).parents[2])
ROWS = [{"q": f"Count to {n}."} for n in range(4)]

pytestmark = [pytest.mark.soak]


@pytest.mark.parametrize("model", ["echo", "demo"])
@pytest.mark.parametrize(
    ("script", "needs"),
    [
        pytest.param('exec "$PYTHON" -W error -m batchgen run "$JOB"', "", id="warnings"),
        pytest.param('exec env -i PYTHONPATH="$ROOT" "$PYTHON" -m batchgen run "$JOB"', "", id="env"),
        pytest.param('ulimit -n 20; exec "$PYTHON" -m batchgen run "$JOB"', "", id="files"),
        pytest.param(
            'exec unshare --pid --fork --mount-proc "$PYTHON" -m batchgen run "$JOB"', "unshare --pid --fork true", id="PID 1"
        ),
    ],
)  # fmt: skip
def test_a_run_in_an_unusual_process_answers_every_row(
    make_job: MakeJob, model: str, script: str, needs: str, request: pytest.FixtureRequest
) -> None:
    if needs and subprocess.run(needs.split(), check=False, capture_output=True).returncode:
        pytest.skip("needs the right to make a process namespace")
    path: object = {"engine": "echo"}
    if model == "demo":
        path = {"path": str(request.getfixturevalue("demo_folder"))}
    job = make_job(ROWS, model=None, decoding={"max_new_tokens": 3 if model == "demo" else 99})
    job.write_text(job.read_text().replace("model: null", f"model: {path}"))
    environment = {**os.environ, "JOB": str(job), "PYTHON": sys.executable, "ROOT": ROOT}
    done = subprocess.run(
        [shutil.which("sh") or "sh", "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**environment, "PYTHONPATH": ROOT},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    answers = pl.read_parquet(job.parent / "out" / "responses.parquet")
    assert answers["finish_reason"].is_in(["stop", "length"]).all()
    if model == "echo":
        assert answers["response"].to_list() == [row["q"] for row in ROWS]
