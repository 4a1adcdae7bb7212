"""The reason for the death of a process: only SIGKILL suggests that memory ran out."""

import os
import signal
import subprocess
import sys

import pytest

from batchgen.engines.process_death import describe_death, exit_code_of

DEATHS: dict[int | None, str] = {
    -signal.SIGKILL: "has died, killed by SIGKILL, most likely because memory ran out",
    -signal.SIGSEGV: "has died of the signal SIGSEGV",
    -signal.SIGABRT: "has died of the signal SIGABRT",
    -signal.SIGILL: "has died of the signal SIGILL",
    -signal.SIGBUS: "has died of the signal SIGBUS",
    -40: "has died of the signal 40",
    0: "has died with exit code 0",
    3: "has died with exit code 3",
    None: "has closed its connection",
}


@pytest.mark.parametrize(("code", "words"), DEATHS.items(), ids=str)
def test_a_death_in_words(code: int | None, words: str) -> None:
    assert describe_death(code) == words


@pytest.mark.parametrize("code", [c for c in DEATHS if c is not None])
def test_the_exit_code_of_a_real_process_that_can_still_be_waited_for(code: int) -> None:
    how = f"os.kill(os.getpid(), {-code})" if code < 0 else f"os._exit({code})"
    with subprocess.Popen([sys.executable, "-c", f"import os; {how}"]) as process:
        assert exit_code_of(process.pid) == code
        assert process.wait() == code


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert exit_code_of(process.pid) is None
    assert os.getpid()
