"""A worker on a node of a Ray cluster: an actor that starts `batchgen run JOB --shard any` on its node and waits for it.

The parts are made in a child process: its engine may fork, crash or run out of memory, and the actor still reports the cause.
It starts with the actor, to import while the driver reads the input, and ends with it. The actor ends when the raylet that started
it is gone: Ray itself leaves it running when the head node is lost. Nothing of a row is sent through Ray.
This module imports no Ray.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import BatchgenError, ExitCode
from batchgen.run.ray_cluster import shard_process
from batchgen.run.ray_cluster.shard_process import ProcessOrder
from batchgen.state.run_folder import RunFolder, read_json
from batchgen.storage.entries import exists

_SECONDS_BETWEEN_LOOKS = 1.0
"""At the parent of the actor."""
_SECONDS_TO_STOP = 20.0
"""For the process to save its answers when the node is lost."""


@dataclass(frozen=True, slots=True)
class ShardCommand:
    """What a worker starts.

    Attributes:
        words: the command line after `batchgen`.
        working_folder: of the driver; relative paths of the job refer to it.
        shared: the run's folder, which all nodes share, and the id of the run in it; None where the parts are in a bucket.
        log: file for the messages of the process; `HOST` in its name is replaced.
    """

    words: tuple[str, ...]
    working_folder: Path
    shared: tuple[Path, str] | None
    log: Path


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How the process of a worker ended.

    Attributes:
        exit_code: of the process; negative for the signal that killed it.
        error: its error, or why it stopped.
    """

    host: str
    exit_code: int
    error: str
    log: Path

    @property
    def died(self) -> bool:
        """Whether the process was killed or crashed, so that another one may succeed."""
        return self.exit_code < 0


class ShardWorker:
    """The actor; `run` and the other methods are called at the same time, by threads."""

    def __init__(self, modules: Sequence[str] = shard_process.MODULES) -> None:
        """Start the process, which imports these modules."""
        # Closed by `run`.
        self._early_messages = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._parent = os.getppid()
        self._child = subprocess.Popen(
            [sys.executable, "-m", shard_process.__name__, str(os.getpid()), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._early_messages,
            text=True,
        )

    def place(self) -> tuple[str, int]:
        """The host, and the process that makes the parts."""
        return socket.gethostname(), self._child.pid

    def run(self, command: ShardCommand) -> WorkerReport:
        """Make parts until none is missing, or until `stop` is called."""
        host = socket.gethostname()
        log = command.log.with_name(command.log.name.replace("HOST", host))
        with self._early_messages as early:
            if problem := _problem(command):
                self._child.kill()
                self._child.communicate()
                return WorkerReport(host, int(ExitCode.ENVIRONMENT), problem, log)
            log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            order = ProcessOrder(command.words, str(command.working_folder), str(log))
            printed = self._wait(order.line())
            early.seek(0)
            if lines := early.read():
                with log.open("a", encoding="utf-8") as messages:
                    messages.write(lines)
        return WorkerReport(host, self._child.returncode, _error(printed), log)

    def _wait(self, order: str) -> str:
        """What the process prints until it ends. If the parent of this actor ends first, so do they."""
        line: str | None = order
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._child.communicate(line, timeout=_SECONDS_BETWEEN_LOOKS)[0]
            line = None  # it was sent
            if os.getppid() != self._parent:
                self.stop()
                with suppress(subprocess.TimeoutExpired):
                    self._child.communicate(timeout=_SECONDS_TO_STOP)
                os._exit(1)

    def stop(self) -> None:
        """Stop the process at its next step; what it has answered is saved."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)


def _problem(command: ShardCommand) -> str:
    """Why this node cannot make parts of the run; empty if it can: another folder of the same name would be filled for nothing."""
    if not command.working_folder.is_dir():
        return f"the working folder {command.working_folder} does not exist there"
    if command.shared is None:
        return ""
    output, run_id = command.shared
    folder = RunFolder(output)
    found = ""
    if exists(folder.run):
        with suppress(BatchgenError):
            found = str(read_json(folder.run).get("run_id", ""))
    if found != run_id:
        return f"{output} is not the output folder of the run there; expected a folder that all nodes share"
    return ""


def _error(printed: str) -> str:
    """The error in the object that the command printed with --json."""
    lines = printed.strip().splitlines()
    with suppress(ValueError):
        content = json.loads(lines[-1]) if lines else {}
        return str(content.get("error") or content.get("why_stopped") or "")
    return ""
