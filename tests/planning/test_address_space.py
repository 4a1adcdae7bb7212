"""A limit of the address space ends a command with one clear error; nothing hangs, aborts or is reported as a bug."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ResourceError, is_out_of_memory
from batchgen.planning import address_space
from batchgen.planning.address_space import free_address_space, require_address_space
from batchgen.planning.host_memory import free_host_memory

MakeJob = Callable[..., Path]
LIMIT = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2); "


def limited(megabytes: int, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run code with a limit of the address space; it must end within a minute."""
    command = [sys.executable, "-c", LIMIT + code, str(megabytes * 1_000_000), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


COMMAND = "sys.argv[1:2] = []; from batchgen.__main__ import main; main()"


@pytest.mark.parametrize("megabytes", [150, 400, 800, 1100])
@pytest.mark.parametrize("command", ["run", "plan", "validate", "status"])
def test_too_little_for_the_libraries_is_an_error_before_they_are_imported(
    tmp_path: Path, megabytes: int, command: str
) -> None:
    done = limited(megabytes, COMMAND, command, str(tmp_path / "job.yaml"))
    assert done.returncode == 5
    assert done.stderr.count("Error: the address space of this process is limited to") == 1
    assert "ulimit -v" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_help_needs_little() -> None:
    done = limited(400, COMMAND, "run", "--help")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [1300, 1600, 2100])
def test_too_little_for_torch_is_one_error(make_job: MakeJob, megabytes: int) -> None:
    job = make_job(model="demo:smollm2-135m")
    done = limited(megabytes, COMMAND, "run", str(job))
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert done.stderr.count("Error: ") == 1
    # The lock is free again.
    again = limited(megabytes, COMMAND, "run", str(job))
    assert again.returncode == 5


def test_the_limit_counts_as_memory() -> None:
    code = (
        "from batchgen.planning.host_memory import free_host_memory; print(free_host_memory()); "
        "from batchgen.planning.address_space import free_address_space; print(free_address_space())"
    )
    done = limited(700, code)
    free, left = map(int, done.stdout.split())
    assert 300e6 < left <= free <= 700e6


def test_without_a_limit_nothing_is_required(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert free_address_space() is None
    require_address_space(10**18, "a test")
    assert free_host_memory(tmp_path) > 0


def test_what_is_used_is_subtracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_space, "address_space_limit", lambda: 10_000_000)
    assert free_address_space(tmp_path) == 10_000_000
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/statm").write_text("1000 500 1 1 0 1 0\n")
    assert free_address_space(tmp_path) == 10_000_000 - 1000 * resource.getpagesize()
    with pytest.raises(
        ResourceError, match=r"limited to 0\.0 GB, of which 0\.0 GB are left: torch"
    ):
        require_address_space(20_000_000, "torch")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ImportError("libtorch.so: failed to map segment from shared object"), True),
        (ImportError("libtorch.so: cannot allocate memory in static TLS block"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("std::bad_alloc"), True),
        (caused(ValueError("x"), MemoryError()), True),
        (OSError(28, "No space left on device"), False),
        (ImportError("no module named torch"), False),
        (ValueError("out of memory"), False),
        (RuntimeError("shape mismatch"), False),
    ],
    ids=repr,
)
def test_errors_that_mean_too_little_memory(error: Any, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
