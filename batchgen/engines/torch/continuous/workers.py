"""Processes that compute the parts of a step side by side.

    one process, all threads in every operation     a barrier after each of some 600 operations; Python, copies and small
                                                    operations leave the other cores idle
    one lane a core, a part of the step each        one barrier at the end

Lanes are forked when the first step is worth it. They share the weights as they are, and the memory of keys, values and
logits, so that only the plan of a step goes through a pipe; who runs and which token is drawn stays with the parent. A lane
ends when its pipe does: with its parent, however that ends. On other devices than a CPU there are no lanes.

Forked from a thread of its own: libgomp's threads do not survive a fork, and a lane would wait for them.
"""

import gc
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import NoReturn, Protocol

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.kv_store import KVStore, shared_zeros
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.memory import out_of_memory
from batchgen.errors import DeathError, ResourceError

Forward = Callable[[StepBatch, KVStore], Tensor]
"""Runs a step on what the store holds: logits [drawn, vocab]."""


class StepWorkers(Protocol):
    """What computes the parts of a step."""

    @property
    def count(self) -> int:
        """How many parts at a time."""

    @property
    def tokens_elsewhere(self) -> int:
        """How many tokens went through the layers in other processes."""

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        """The logits [drawn, vocab] of all parts, in order; what they compute is in `store` afterwards."""

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """Everything in this process."""

    count = 1
    tokens_elsewhere = 0

    def __init__(self, forward: Forward) -> None:
        """Compute by `forward`."""
        self._forward = forward

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        """See `StepWorkers`."""
        return torch.cat([self._forward(part, store) for part in parts])

    def close(self) -> None:
        """Nothing was started."""


@dataclass(frozen=True, slots=True)
class LogitsSpec:
    """What a row of logits looks like: numbers, and their dtype."""

    vocab: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    pipe: Connection
    logits: Tensor


class ForkedWorkers:
    """A process for each part; a step that is not split is computed here."""

    def __init__(self, forward: Forward, count: int, rows: int, logits: LogitsSpec) -> None:
        """Nothing is forked yet. The store that `compute` gets first is the one that lanes share.

        Args:
            forward: computes a part.
            count: of lanes.
            rows: most rows of a part.
            logits: of one row.
        """
        self.count = count
        self.tokens_elsewhere = 0
        self._rows = rows
        self._forward = forward
        self._wide = logits
        self._threads = max(1, torch.get_num_threads() // count)
        self._lanes: list[_Worker] = []

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        """See `StepWorkers`.

        Raises:
            MemoryError: a part did not fit in memory.
            DeathError: a lane has died.
        """
        if len(parts) == 1:
            return self._forward(parts[0], store)
        if not self._lanes:
            self._fork(store)
        lanes = self._lanes[: len(parts)]
        for lane, part in zip(lanes, parts, strict=True):
            _send(lane, pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL))
        # All are heard before anything is raised: a lane that still runs would write into the next step.
        answers = [_receive(lane) for lane in lanes]
        if any(answer == _NO_MEMORY for answer in answers):
            raise MemoryError("a lane ran out of memory")
        if failed := next((a for a in answers if a != _DONE), None):
            raise RuntimeError(f"a lane failed: {failed.decode(errors='replace')}")
        self.tokens_elsewhere += sum(len(part.token_ids) for part in parts)
        counts = [len(part.drawn) for part in parts]
        return torch.cat([lane.logits[:n] for lane, n in zip(lanes, counts, strict=True)])

    def close(self) -> None:
        """End the processes."""
        for lane in self._lanes:
            lane.pipe.close()
        for lane in self._lanes:
            os.waitpid(lane.pid, 0)
        self._lanes = []

    def _fork(self, store: KVStore) -> None:
        try:
            with ThreadPoolExecutor(1) as forking:
                forking.submit(self._fork_all, store).result()
        except OSError as error:
            self.close()
            raise ResourceError(
                f"no process can be started that computes a part of the rows: {error.strerror}",
                hint="run.workers: 1 needs none",
            ) from error

    def _fork_all(self, store: KVStore) -> None:
        # What is there now is never collected in a lane, so its pages are not copied for the sake of a counter.
        gc.freeze()
        try:
            for _ in range(self.count):
                self._lanes.append(self._fork_one(store))
        finally:
            gc.unfreeze()

    def _fork_one(self, store: KVStore) -> _Worker:
        logits = shared_zeros(
            (self._rows, self._wide.vocab), torch.empty(0, dtype=self._wide.dtype)
        )
        here, there = Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns that another thread may hold a lock. A lane takes none: see `_serve`.
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._serve(there, store, logits)
        there.close()
        return _Worker(pid, here, logits)

    def _serve(self, pipe: Connection, store: KVStore, logits: Tensor) -> NoReturn:
        """A lane's whole life. Nothing of the parent's is touched: no file, no lock, no handler."""
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
            os.closerange(0, pipe.fileno())
            os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            torch.set_num_threads(self._threads)
            while True:
                pipe.send_bytes(self._answer(pipe.recv_bytes(), store, logits))
        except (EOFError, OSError):
            status = 0
        finally:
            os._exit(status)

    def _answer(self, plan: bytes, store: KVStore, logits: Tensor) -> bytes:
        try:
            made = self._forward(pickle.loads(plan), store)
            logits[: len(made)] = made
        except Exception as error:  # noqa: BLE001  the parent raises it
            return _NO_MEMORY if out_of_memory(error) else type(error).__name__.encode()
        return _DONE


_DONE = b"done"
_NO_MEMORY = b"no memory"


def _send(lane: _Worker, plan: bytes) -> None:
    try:
        lane.pipe.send_bytes(plan)
    except OSError as error:
        raise _worker_death_error(lane) from error


def _receive(lane: _Worker) -> bytes:
    try:
        return lane.pipe.recv_bytes()
    except (EOFError, OSError) as error:
        raise _worker_death_error(lane) from error


def _worker_death_error(lane: _Worker) -> DeathError:
    return DeathError(
        f"process {lane.pid}, which computed a part of the rows, has died: most likely killed for want of memory",
        hint="run the same command again; if it happens again, run.workers: 1 or a lower batching.memory_fraction",
    )
