"""What the engine needs of the interpreter is checked before transformers is imported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MakeJob = Callable[..., Path]


@pytest.mark.soak
@pytest.mark.parametrize("command", ["plan", "run"])
def test_python_without_docstrings_is_an_error(make_job: MakeJob, command: str) -> None:
    """transformers raises `ValueError: No Args section is found in the docstring` otherwise."""
    job = make_job(model="demo:smollm2-135m")
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", command, str(job)],
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 5
    assert "Error: Python runs without docstrings (-OO or PYTHONOPTIMIZE=2)" in done.stderr
    assert "Unset PYTHONOPTIMIZE, or set it to 1." in done.stderr
