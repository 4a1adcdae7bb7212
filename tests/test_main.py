"""The end of the command's process: immediate, but after all cleanup."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchgen.__main__ import call

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
    ("arguments", "code", "line"),
    [(["--version"], 0, "batchgen, version"), (["validate", "none.yaml"], 2, "a thread has ended")],
)
def test_threads_and_exit_functions_finish_before_the_process_ends(
    arguments: list[str], code: int, line: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS.format(arguments=arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    lines = done.stdout.splitlines()
    assert any(printed.startswith(line) for printed in lines)
    assert lines[-2:] == ["a thread has ended", "an exit function has run"]


@pytest.mark.parametrize("missing", ["None", "absent"])
@pytest.mark.parametrize(
    ("program", "code", "last"),
    [
        ("-m batchgen run job.yaml", 5, "  On Windows, run it in WSL"),
        ("-m batchgen --help", 5, "  On Windows, run it in WSL"),
        ("-c import batchgen; batchgen.run('job.yaml')", 1, "  On Windows, run it in WSL"),
        ("-c import batchgen; batchgen.BatchgenError", 0, ""),
    ],
)
def test_a_system_without_file_locks_gets_one_clear_error(
    tmp_path: Path, missing: str, program: str, code: int, last: str
) -> None:
    hide = "sys.modules.update(dict.fromkeys(['fcntl', 'resource', 'pwd', 'grp']))"
    if missing == "absent":
        hide = (
            "sys.meta_path.insert(0, type('Hidden', (), {'find_spec': staticmethod(lambda n, *_: "
            "(_ for _ in ()).throw(ModuleNotFoundError(n)) if n in ('fcntl', 'resource') else None)}))"
        )
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{hide}\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    flag, _, rest = program.partition(" ")
    done = subprocess.run(
        [sys.executable, flag, *(rest.split() if flag == "-m" else [rest])],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == "" or done.stderr.splitlines()[-1].startswith(last)
    if flag == "-m":
        assert len(done.stderr.splitlines()) == 2
        assert "no module fcntl: batchgen runs on Linux and macOS" in done.stderr


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


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (FileNotFoundError(2, "No such file or directory", "/a/b"), 5, "/a/b: No such file or"),
        (PermissionError(13, "Permission denied", b"/a/\xff"), 5, "/a/\\xff: Permission denied"),
        (NotADirectoryError(20, "Not a directory", Path("/a")), 5, "/a: Not a directory"),
        (OSError(5, "Input/output error", "/a"), 5, "/a: Input/output error"),
        (OSError(12, "Cannot allocate memory"), 5, "no memory is left"),
        (OSError(5, "Input/output error"), 1, "this is a bug in batchgen"),
        (OSError("no number"), 1, "this is a bug in batchgen"),
    ],
    ids=str,
)
def test_an_error_of_the_system_with_a_file_name_is_not_a_bug(
    error: OSError,
    code: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last net: errors of the system are converted where they occur."""

    def fails(_path: Path) -> None:
        raise error

    monkeypatch.setattr("batchgen.inspection.status.status", fails)
    assert call(["status", "run", "--json"]) == code
    out, err = capsys.readouterr()
    assert f"Error: {expected}" in err
    assert ("Traceback" in err) == (code == 1)
    answer = json.loads(out)
    assert answer["exit_code"] == code
    if code == 5 and error.filename is not None:
        assert answer["error"].endswith("Check the path and its disk, then repeat the command.")


def test_a_package_that_is_not_installed_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['polars'] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", "verify", "out"],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        },
    )
    assert done.returncode == 5
    assert f"needs the package polars, which is not installed for {sys.executable}" in done.stderr
    assert "Traceback" not in done.stderr


def test_threads_of_a_pool_that_wait_for_work_do_not_keep_the_process(tmp_path: Path) -> None:
    program = (
        "from concurrent.futures import ThreadPoolExecutor; import sys\n"
        "pool = ThreadPoolExecutor(1); pool.submit(print, 'worked', flush=True).result()\n"
        "sys.argv = ['batchgen', 'verify', 'absent']\n"
        "from batchgen.__main__ import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert "worked" in done.stdout
    assert done.returncode in range(1, 7)
