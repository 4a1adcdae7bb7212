"""One run at a time in a folder, and a lock that no crash can leave behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchgen.errors import ExitCode, LockedError, StateError
from batchgen.state.lock import hold_lock

HOLDER = """
import sys, time
from pathlib import Path
from batchgen.state.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "out" / ".batchgen").mkdir(parents=True)
    return tmp_path / "out" / ".batchgen" / "lock"


def test_the_error_of_a_second_run_names_the_owner_of_the_lock(lock: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(LockedError, match=f"process {holder.pid} on ") as caught,
            hold_lock(lock),
        ):
            pass
        assert caught.value.exit_code == ExitCode.RUN_AGAIN
        assert str(lock.parent.parent) in caught.value.message
        assert "--output" in caught.value.hint
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with hold_lock(lock):
        pass  # the kernel released it


def test_a_lock_is_free_after_its_block(lock: Path) -> None:
    for _ in range(2):
        with hold_lock(lock):
            assert '"pid"' in lock.read_text()


def test_a_symlink_instead_of_the_lock_is_not_followed(lock: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    lock.symlink_to(precious)
    with pytest.raises(StateError, match="lock is a link; expected a file"), hold_lock(lock):
        pass
    assert precious.read_text() == "keep me"
