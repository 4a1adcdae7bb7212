"""Several processes: one works at a time, and a child ends with its parent."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from batchgen.storage.processes import one_process_at_a_time

WORK = """
import sys, time
from pathlib import Path
from batchgen.storage.processes import one_process_at_a_time
folder = Path(sys.argv[1])
with one_process_at_a_time(folder / "locks" / "one.lock"):
    if not (folder / "result").exists():
        (folder / f"worked-{sys.argv[2]}").touch()
        time.sleep(0.3)
        (folder / "result").touch()
"""


def test_of_processes_that_start_together_one_makes_the_result(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORK, str(tmp_path)]
    started = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [process.wait(timeout=60) for process in started] == [0] * 4
    assert len(list(tmp_path.glob("worked-*"))) == 1


@pytest.mark.timing
def test_a_process_that_holds_the_lock_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "one.lock"
    began = time.monotonic()
    with FileLock(lock), one_process_at_a_time(lock, longest_wait=0.2):
        assert 0.2 <= time.monotonic() - began < 5


def test_the_block_runs_where_no_lock_can_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = []
    with one_process_at_a_time(tmp_path / "file" / "one.lock"):
        ran.append(True)
    assert ran


def test_an_error_of_the_block_is_raised_and_frees_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "one.lock"
    with pytest.raises(FileNotFoundError), one_process_at_a_time(lock):
        raise FileNotFoundError
    with FileLock(lock, timeout=0):
        pass


PARENT = """
import subprocess, sys, time
child = "import os, time; from batchgen.storage.processes import end_with_parent; end_with_parent(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", child])
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl of Linux")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
        # At the end of the file no process has the pipe open: the child has ended.
        assert parent.stdout.read() == b""
