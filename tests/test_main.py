"""The end of the command's process: immediate, but after all cleanup."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ENDS = """
import atexit, sys, threading, time
from batchgen.__main__ import main

def work():
    time.sleep(0.2)
    print("a thread has ended")

atexit.register(print, "an exit function has run")
threading.Thread(target=work).start()
sys.argv = ["batchgen", *{arguments!r}]
main()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "first"),
    [(["--version"], 0, "batchgen, version"), (["validate", "none.yaml"], 2, "a thread has ended")],
)
def test_threads_and_exit_functions_finish_before_the_process_ends(
    arguments: list[str], code: int, first: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS.format(arguments=arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    lines = done.stdout.splitlines()
    assert lines[0].startswith(first)
    assert lines[-2:] == ["a thread has ended", "an exit function has run"]


BROKEN = "cannot write: No space left on device"
NO_JOB = "none.yaml: no such file"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("arguments", "full", "code", "expected"),
    [
        pytest.param(["--version"], "stdout", 5, f"stdout: {BROKEN}", id="short"),
        pytest.param(["schema"], "stdout", 5, f"stdout: {BROKEN}", id="long"),
        pytest.param(["validate", "none.yaml"], "stdout", 2, NO_JOB, id="error"),
        pytest.param(["validate", "none.yaml", "--json"], "stdout", 2, NO_JOB, id="error as JSON"),
        pytest.param(["validate", "none.yaml"], "stderr", 2, "", id="nobody is messages"),
        pytest.param(["--version"], "stderr", 0, "batchgen, version", id="nothing to tell"),
    ],
)
def test_a_full_stream_is_not_a_bug(
    arguments: list[str], full: str, code: int, expected: str, unbuffered: str
) -> None:
    with Path("/dev/full").open("wb") as refused:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = subprocess.run(
            [sys.executable, "-m", "batchgen", *arguments],
            check=False,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            **{**streams, full: refused},
        )
    assert done.returncode == code
    printed = done.stderr if full == "stdout" else done.stdout
    assert expected in printed
    assert "Traceback" not in printed
    assert "bug" not in printed
    assert "ignored" not in printed
