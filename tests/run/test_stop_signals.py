"""The first signal asks, the second ends, and the process then dies of the signal that was sent."""

import signal
import subprocess
import sys

import pytest

WAITING = """
import sys, time
from batchgen.run.stop_signals import handle_stop_signals
with handle_stop_signals() as stop:
    print("ready", flush=True)
    while not stop():
        time.sleep(0.01)
    print("saved", flush=True)
    if sys.argv[1] == "hang":
        time.sleep(60)
    stop.end_by_signal()
print("not reached", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_cleanly_and_is_the_process_s_end(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "end"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert out == "saved\n"
    assert "once more to stop at once" in err
    assert process.returncode == -number


def test_the_second_signal_ends_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "hang"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT


def test_nohup_is_respected() -> None:
    with subprocess.Popen(
        ["nohup", sys.executable, "-c", WAITING, "end"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM


def test_handlers_are_given_back() -> None:
    from batchgen.run.stop_signals import handle_stop_signals

    before = signal.getsignal(signal.SIGTERM)
    with handle_stop_signals() as stop:
        assert not stop()
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
