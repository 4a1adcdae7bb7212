"""A function in a new process: its result is returned, and the process never outlives its caller."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batchgen.bench.isolated_process import ProcessDied, run_in_process


def squared(number: int, *, plus: int = 0) -> tuple[int, int]:
    return number**2 + plus, os.getpid()


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def broken() -> None:
    raise ValueError("broken")


def sleepy(file: str) -> None:
    Path(file).write_text(str(os.getpid()))
    time.sleep(600)


def test_the_result_comes_back_from_another_process() -> None:
    found, process = run_in_process(squared, 3, plus=1)
    assert found == 10
    assert process != os.getpid()


def test_a_crashed_process_is_reported_with_its_exit_code() -> None:
    with pytest.raises(ProcessDied) as died:
        run_in_process(killed)
    assert died.value.exit_code == -signal.SIGKILL
    with pytest.raises(ProcessDied) as died:
        run_in_process(broken)
    assert died.value.exit_code == 1


def test_an_interrupted_caller_leaves_no_process(tmp_path: Path) -> None:
    """Only the caller gets the signal, as from `kill`; a terminal sends it to both."""
    file = tmp_path / "pid"
    script = (
        "from batchgen.bench.isolated_process import run_in_process\n"
        "from tests.bench.test_isolated_process import sleepy\n"
        f"if __name__ == '__main__': run_in_process(sleepy, {str(file)!r})\n"
    )
    (tmp_path / "caller.py").write_text(script)
    root = Path(__file__).resolve().parent.parent.parent
    caller = subprocess.Popen(
        [sys.executable, str(tmp_path / "caller.py")],
        env=os.environ | {"PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    caller.send_signal(signal.SIGINT)
    caller.wait(60)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
