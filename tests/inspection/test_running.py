"""Commands on the folder of a run that another process is running."""

import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.__main__ import call
from batchgen.errors import LockedError
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.lock import is_running
from batchgen.state.run_folder import RunFolder
from tests.run.wrapped_engines import meddling

MakeJob = Callable[..., Path]
WAIT = "Wait until the run ends, then repeat the command"
ROWS = [{"q": f"row {n}"} for n in range(60)]


def lock(folder: RunFolder, *, pid: int, host: str = socket.gethostname()) -> int:
    """Lock a folder as another process does; returns the descriptor to close."""
    folder.lock.write_text(json.dumps({"pid": pid, "host": host, "since": "now"}))
    descriptor = os.open(folder.lock, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


@pytest.fixture
def unfinished(make_job: MakeJob) -> RunFolder:
    left = iter(range(30))
    job = load_job(make_job(ROWS, batching={"part_rows": 20}))
    result = run(job, stop=lambda: next(left, None) is None)
    assert result.outcome == "stopped"
    return result.folder


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["status", "OUT"], 0, "out  running · "),
        (["show", "OUT"], 0, "out is running: these are the answers so far"),
        (["export", "OUT", "-o", "x.csv"], 0, "out is running: these are the answers so far"),
        (["verify", "OUT"], 0, "ok       running · "),
        (["runs", "."], 0, "running "),
        (["plan", "job.yaml"], 0, "out, running, "),
        (["score", "OUT", "-m", "length"], 75, f"out is running\n  {WAIT}"),
        (["compare", "OUT", "OUT"], 75, f"out is running\n  {WAIT}"),
        (["run", "job.yaml"], 75, "another run has locked"),
        (["purge", "OUT", "--yes"], 75, "another run has locked"),
        (
            ["run", "job.yaml", "-o", "other", "--incremental-from", "OUT"],
            75,
            f"out is running\n  {WAIT}",
        ),
    ],
)
def test_a_run_in_progress_is_called_running(
    unfinished: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    expected: str,
) -> None:
    monkeypatch.chdir(unfinished.path.parent)
    given = [str(unfinished.path) if word == "OUT" else word for word in arguments]
    descriptor = lock(unfinished, pid=os.getppid())
    try:
        assert call(given) == code
    finally:
        os.close(descriptor)
    out, err = capsys.readouterr()
    assert expected in out + err
    assert "Repeat the same" not in out + err


@pytest.mark.parametrize(
    ("pid", "host", "locked", "expected"),
    [
        pytest.param(os.getppid(), None, True, True, id="running"),
        pytest.param(os.getppid(), None, False, False, id="another process has the number now"),
        pytest.param(2**22 + 1, None, True, False, id="no such process"),
        pytest.param(10**30, None, True, False, id="no number of a process"),
        pytest.param(os.getpid(), None, True, False, id="this process"),
        pytest.param(2**22 + 1, "elsewhere", True, True, id="on another machine"),
        pytest.param(2**22 + 1, "elsewhere", False, False, id="stopped on another machine"),
    ],
)
def test_a_run_is_running_while_its_process_holds_the_lock(
    tmp_path: Path, pid: int, host: str | None, locked: bool, expected: bool
) -> None:
    folder = RunFolder(tmp_path)
    folder.private.mkdir()
    descriptor = lock(folder, pid=pid, host=host or socket.gethostname())
    if not locked:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    assert is_running(folder.lock) is expected
    os.close(descriptor)


@pytest.mark.parametrize("content", ["", "{}", "[]", "{", '{"pid": "x", "host": 1}'])
def test_a_lock_without_an_owner_is_not_running(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    assert not is_running(tmp_path / "lock")
    assert not is_running(tmp_path / "none")


def test_a_run_moved_to_a_folder_whose_name_is_not_utf8_is_not_damaged(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(load_job(make_job(ROWS, evaluate={"metrics": ["length"]}))).folder
    moved = tmp_path / os.fsdecode(b"run\xff")
    try:
        folder.path.rename(moved)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    capsys.readouterr()
    for command in ("status", "show", "verify", "compare"):
        assert call([command, *([str(moved)] * (2 if command == "compare" else 1))]) == 5
        error = capsys.readouterr().err
        assert f"the name of a folder is not UTF-8: {tmp_path}/run\\xff/" in error
        assert "Rename the folder" in error


def test_of_twenty_starts_at_the_same_time_one_runs(make_job: MakeJob) -> None:
    """Also of another job with the same output folder. The others end with 75 and leave the run alone."""
    job = make_job(ROWS, batching={"part_rows": 20})
    loaded = [load_job(job), load_job(job, overrides=["name=other", "prompt.user=x"])]
    codes: list[int] = []

    def start(number: int) -> None:
        with pytest.raises(LockedError) as caught:
            run(loaded[number % 2])
        codes.append(caught.value.exit_code)

    def crowd() -> None:
        threads = [threading.Thread(target=start, args=(number,)) for number in range(19)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    result = run(loaded[0], opener=meddling(25, crowd))
    assert codes == [75] * 19
    assert result.outcome == "done"
    assert result.counts.rows == len(ROWS)
