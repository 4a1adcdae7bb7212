"""How a worker process has ended, in words."""

import os
import signal
import time

_SECONDS = 5.0
"""Longest wait for the end of a process whose pipe is closed."""
_POLL_SECONDS = 0.01
_WITHOUT_REAPING = os.WEXITED | os.WNOWAIT | os.WNOHANG


def describe_death(exit_code: int | None) -> str:
    """The reason, from an exit code as `subprocess` has it: negative for a signal; None if the process still runs.

    The kernel ends a process with SIGKILL when memory runs out; every other signal has another cause.
    """
    if exit_code is None:
        return "has closed its connection"
    if exit_code == -signal.SIGKILL:
        return "has died, killed by SIGKILL, most likely because memory ran out"
    if exit_code < 0:
        return f"has died of the signal {_signal_name(-exit_code)}"
    return f"has died with exit code {exit_code}"


def exit_code_of(pid: int, seconds: float = _SECONDS) -> int | None:
    """The exit code of a child process that is about to end, as in `describe_death`; it can still be waited for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            ended = os.waitid(os.P_PID, pid, _WITHOUT_REAPING)
        except ChildProcessError:  # something else has waited for it
            return None
        if ended is not None:
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        time.sleep(_POLL_SECONDS)
    return None


def has_ended(pid: int) -> bool:
    """Whether a child process has ended; it can still be waited for."""
    try:
        return os.waitid(os.P_PID, pid, _WITHOUT_REAPING) is not None
    except ChildProcessError:  # something else has waited for it
        return True


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
