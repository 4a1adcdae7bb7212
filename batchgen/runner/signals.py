"""The first SIGINT, SIGTERM or SIGHUP asks the run to stop at the next step; the second ends it at once.

The run then ends by the same signal, so that shells, systemd and Slurm see the truth. A signal that whoever started this
process has it ignore stays ignored: `nohup` does so with SIGHUP.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether, and by which signal, the run was asked to stop."""

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Whether to stop. Engines ask between steps."""
        return self._signal is not None

    def ask(self, number: signal.Signals) -> None:
        """Ask the run to stop."""
        self._signal = number

    def end_by_signal(self) -> None:
        """End this process by the signal that asked for it; return if there was none."""
        if self._signal is not None:
            signal.signal(self._signal, signal.SIG_DFL)
            os.kill(os.getpid(), self._signal)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first signal into a request while the block runs; the next one has its default effect."""
    request = StopRequest()
    heard = [each for each in STOPPING if signal.getsignal(each) != signal.SIG_IGN]

    def on_signal(number: int, _frame: FrameType | None) -> None:
        request.ask(signal.Signals(number))
        # Written past every buffer: a handler may interrupt anything.
        os.write(2, b"\nstopping at the next step; once more to stop at once\n")
        for each in heard:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, on_signal) for each in heard}
    try:
        yield request
    finally:
        if not request():
            for each, handler in before.items():
                signal.signal(each, handler)
