"""How the process of the command ends: at once, but with everything done that is done at an end."""

import subprocess
import sys

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
def test_all_is_done_before_the_process_ends(arguments: list[str], code: int, first: str) -> None:
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
