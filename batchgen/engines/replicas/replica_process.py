"""A replica as its parent sees it: a process, its pipe, and where its output goes.

The process of a library, such as vLLM, has a group of its own: the processes that the library starts end with it, however it
ends. What they print goes to a nameless file, which the system deletes with them: it may quote rows.
"""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask
from typing import Any

from batchgen.engines.process_death import describe_death, exit_code_of, has_ended
from batchgen.errors import AdapterError, BatchgenError, DeathError, ResourceError

_POLL_SECONDS = 0.2
"""Longest wait for a message before the process is looked at: its pipe stays open while a process that it started lives."""
_END_SECONDS = 5.0
"""Time for a replica to exit by itself before it is killed; a step may take longer."""
_LIBRARY_END_SECONDS = 10.0
"""The same for one that ends the processes of a library first."""


@dataclass(frozen=True, slots=True)
class ReplicaProcess:
    """A replica.

    Attributes:
        device: names it in errors.
        library: whose engine it runs; empty for an engine of batchgen.
    """

    device: str
    library: str
    process: "subprocess.Popen[bytes]"
    pipe: Connection

    def send(self, message: object) -> None:
        """Send a message. If the process has died, the next `receive` raises the reason."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def receive(self) -> Any:  # noqa: ANN401  depends on the command sent before
        """Wait for the next message. Raises the error of its engine, or DeathError if the process has died."""
        try:
            while not self.pipe.poll(_POLL_SECONDS):
                self.check_alive()
            message = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._death(exit_code_of(self.process.pid)) from error
        if isinstance(message, BatchgenError):
            raise self._located(message)
        return message

    def check_alive(self) -> None:
        """Raise DeathError if the process has died and its last message has been received."""
        if has_ended(self.process.pid) and not self.pipe.poll():
            raise self._death(exit_code_of(self.process.pid))

    def end(self) -> None:
        """Wait for the end of the process, whose pipe is closed; kill it if it does not end in time."""
        exit_code_of(self.process.pid, _LIBRARY_END_SECONDS if self.library else _END_SECONDS)
        with suppress(ProcessLookupError, PermissionError):
            # Before the process is waited for: its number cannot belong to another group yet.
            if self.library:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _death(self, exit_code: int | None) -> DeathError:
        death, number = describe_death(exit_code), self.process.pid
        if self.library:
            return DeathError(
                f"the process {number} of {self.library} {death}",
                hint="Run the same command again. If it happens again, lower batching.memory_fraction or batching.max_rows.",
            )
        return DeathError(
            f"the worker process {number} on {self.device} {death}",
            hint="Run the same command again. If it happens again, lower batching.memory_fraction or run.workers: "
            "each worker loads its own copy of the model into host memory first.",
        )

    def _located(self, error: BatchgenError) -> BatchgenError:
        if not self.device or isinstance(error, AdapterError):
            return error
        return type(error)(f"on {self.device}: {error.message}", hint=error.hint)


def start_replica(device: str, library: str = "") -> ReplicaProcess:
    """Start a process that waits for its engine factory.

    Args:
        device: names it in errors; empty where there is only one.
        library: whose engine it will run, such as vLLM; empty for an engine of batchgen.

    Raises:
        ResourceError: the system starts no process.
    """
    here, there = Pipe()
    serve = f"from batchgen.engines.replicas.worker import serve; serve({there.fileno()})"
    # A terminal sends signals to the whole process group: the parent handles them and sends STOP.
    before = pthread_sigmask(SIG_BLOCK, {SIGINT, SIGTERM, SIGHUP})
    try:
        with tempfile.TemporaryFile() if library else nullcontext(2) as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", serve],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,  # stdout is for results
                stderr=output,
                process_group=0 if library else None,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
    except OSError as error:
        here.close()
        raise ResourceError(
            f"cannot start a worker process{f' for {device}' if device else ''}: {error.strerror}",
            hint="Set run.workers: 1, which needs no worker process."
            if not library
            else "Free memory or disk space, then repeat the same command.",
        ) from error
    finally:
        pthread_sigmask(SIG_SETMASK, before)
        there.close()
    return ReplicaProcess(device, library, process, here)


def captured_output(most: int = 65_536) -> str:
    """The end of what this process and those that it started have printed; empty unless it is captured."""
    with suppress(OSError):  # a pipe or a terminal cannot be read again
        size = os.fstat(2).st_size
        return os.pread(2, most, max(0, size - most)).decode(errors="replace")
    return ""
