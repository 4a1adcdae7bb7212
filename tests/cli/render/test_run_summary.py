"""The final summary of `run`."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call
from batchgen.state.run_folder import read_json
from tests.conftest import MakeJob

SHARES = ("mfu", "useful_token_share")


def test_a_run_reports_and_stores_its_utilization(
    make_job: MakeJob, demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"engine": "transformers", "path": str(demo_folder)}
    job = make_job(
        [{"q": "Hello."}, {"q": "Name a colour."}], model=model, decoding={"max_new_tokens": 2}
    )
    assert call(["run", str(job)]) == 0
    shown = re.search(
        r"^tier   continuous, own forward · \d+ workers? \(auto: one per core, at most 8\)\nused   (\d+)% of the machine's peak \(MFU\) · (\d+)% of computed tokens useful$",
        capsys.readouterr().err,
        re.MULTILINE,
    )
    assert shown is not None
    kept: Any = read_json(job.parent / "out" / "manifest.json")["engine"]
    assert [f"{kept[share]:.0%}" for share in SHARES] == [f"{n}%" for n in shown.groups()]
    assert 0 < kept["mfu"] < 1


def test_a_run_reports_a_kernel_that_cannot_be_used(
    make_job: MakeJob, demo_folder: Path, tmp_path: Path
) -> None:
    """A package numba that cannot be imported; in a separate process, since kernels are tried once per process."""
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text("raise ImportError('needs NumPy 2.2')")
    model = {"engine": "transformers", "path": str(demo_folder)}
    job = make_job([{"q": "Hello."}], model=model, decoding={"max_new_tokens": 2})
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", "run", str(job)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
    )
    reason = "ImportError: needs NumPy 2.2"
    assert f"slower attention without its compiled kernel: {reason}" in done.stderr
    assert f"slower norm without its compiled kernel: {reason}" in done.stderr
    kept: Any = read_json(job.parent / "out" / "manifest.json")["engine"]
    assert kept["kernels"] == {"attention": f"torch: {reason}", "norm": f"torch: {reason}"}


def test_without_a_model_utilization_is_not_reported(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    assert call(["run", str(job)]) == 0
    assert "MFU" not in capsys.readouterr().err
    assert not set(SHARES) & set(read_json(job.parent / "out" / "manifest.json")["engine"])
