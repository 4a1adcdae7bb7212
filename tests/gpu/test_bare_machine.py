"""The tests for a GPU need nothing that a bare machine lacks, and hold on the shadow device."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.gpu.bare_machine import hidden_modules, required_packages

HERE = Path(__file__).resolve().parent


def on_bare_machine(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Pytest in a process that can only import what such a machine has."""
    return subprocess.run(
        [
            sys.executable,
            str(HERE / "bare_machine.py"),
            "pytest",
            "-q",
            *("-p", "no:cacheprovider", f"--confcutdir={HERE}", *arguments, str(HERE)),
        ],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        env={
            **os.environ,
            "BATCHGEN_TEST_DEVICE": "shadow",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(HERE.parent.parent),
        },
        check=False,
    )


def test_the_bare_machine_lacks_our_libraries() -> None:
    installed = {name for name in ("pyarrow", "polars", "numba") if find_spec(name) is not None}
    assert hidden_modules() >= installed
    assert required_packages(["pytest"]) >= {"pluggy", "iniconfig"}


@pytest.mark.soak
def test_every_module_can_be_imported_there() -> None:
    done = on_bare_machine("--collect-only")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "test_gpu_answers.py" in done.stdout
    timed = subprocess.run(
        [sys.executable, str(HERE / "bare_machine.py"), "tests.gpu.time_engine", "--help"],
        capture_output=True,
        text=True,
        cwd=HERE.parent.parent,
        check=False,
    )
    assert timed.returncode == 0, timed.stderr


@pytest.mark.soak
def test_what_needs_no_real_gpu_holds_on_the_shadow_device() -> None:
    done = on_bare_machine("-m", "gpu")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
