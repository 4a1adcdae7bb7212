"""Worker processes that compute the parts of a step in parallel, on a CPU.

`planning/step_split.py` decides which steps have parts; the others are computed in this process, with all threads. Workers
are forked at the first step with parts. They share the weights and the memory of keys, values and logits, so only the plan
of a step is sent through a pipe; the parent schedules and samples. A worker ends when its pipe closes: when its parent ends
for any reason.

They are forked from a new thread: libgomp's threads do not survive a fork, and a worker would wait for them.
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

from batchgen.engines.process_death import describe_death, exit_code_of
from batchgen.engines.torch.continuous.kv_store import KVStore, shared_zeros
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.engines.torch.memory import out_of_memory
from batchgen.errors import DeathError, ResourceError
from batchgen.planning.step_split import StepSplitter

Forward = Callable[[StepBatch, KVStore], Tensor]
"""Runs a step with the keys and values of the store: logits [drawn, vocab]."""


class StepWorkers(Protocol):
    """Computes the parts of a step."""

    @property
    def count(self) -> int: ...

    @property
    def splitter(self) -> StepSplitter:
        """Decides which steps have parts."""

    @property
    def tokens_elsewhere(self) -> int: ...

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        """Compute all parts; returns their logits [drawn, vocab] in order and writes `store`."""

    def close(self) -> None: ...


class InProcess:
    """Computes all parts in this process."""

    count = 1
    tokens_elsewhere = 0

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        self.splitter = StepSplitter(1, 1, learns=False)

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        return torch.cat([self._forward(part, store) for part in parts])

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LogitsSpec:
    """Width and dtype of the logits."""

    vocab: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    pipe: Connection
    logits: Tensor


class ForkedWorkers:
    """One process per part; a step that is not split is computed in this process, with all threads."""

    def __init__(
        self, forward: Forward, splitter: StepSplitter, rows: int, logits: LogitsSpec
    ) -> None:
        """Fork processes later, which share the store of the first `compute`. `rows`: most rows of a part."""
        self.splitter = splitter
        self.count = count = splitter.parts
        self.tokens_elsewhere = 0
        self._rows = rows
        self._forward = forward
        self._logits = logits
        self._threads = max(1, torch.get_num_threads() // count)
        self._workers: list[_Worker] = []

    def compute(self, parts: Sequence[StepBatch], store: KVStore) -> Tensor:
        """See `StepWorkers`. Raises MemoryError, or DeathError if a process has died."""
        if len(parts) == 1:
            return self._forward(parts[0], store)
        if not self._workers:
            self._fork(store)
        workers = self._workers[: len(parts)]
        for worker, part in zip(workers, parts, strict=True):
            _send(worker, pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL))
        # All answers are received before raising: a running worker would write into the next step.
        answers = [_receive(worker) for worker in workers]
        if any(answer == _NO_MEMORY for answer in answers):
            raise MemoryError("a worker ran out of memory")
        if failed := next((a for a in answers if a != _DONE), None):
            raise RuntimeError(f"a worker failed: {failed.decode(errors='replace')}")
        self.tokens_elsewhere += sum(len(part.token_ids) for part in parts)
        counts = [len(part.drawn) for part in parts]
        return torch.cat([worker.logits[:n] for worker, n in zip(workers, counts, strict=True)])

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
        for worker in self._workers:
            os.waitpid(worker.pid, 0)
        self._workers = []

    def _fork(self, store: KVStore) -> None:
        try:
            with ThreadPoolExecutor(1) as forking:
                forking.submit(self._fork_all, store).result()
        except OSError as error:
            self.close()
            raise ResourceError(
                f"cannot start a worker process: {error.strerror}",
                hint="Set run.workers: 1, which needs no worker process.",
            ) from error

    def _fork_all(self, store: KVStore) -> None:
        # Garbage collection in a worker would write to existing objects and so copy their memory pages.
        gc.freeze()
        try:
            for _ in range(self.count):
                self._workers.append(self._fork_one(store))
        finally:
            gc.unfreeze()

    def _fork_one(self, store: KVStore) -> _Worker:
        shape = self._rows, self._logits.vocab
        logits = shared_zeros(shape, torch.empty(0, dtype=self._logits.dtype))
        here, there = Pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns that another thread may hold a lock. A worker takes none: see `_serve`.
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._serve(there, store, logits)
        there.close()
        return _Worker(pid, here, logits)

    def _serve(self, pipe: Connection, store: KVStore, logits: Tensor) -> NoReturn:
        """The main loop of a worker. It uses no file, lock or handler of the parent."""
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
            computed = self._forward(pickle.loads(plan), store)
            logits[: len(computed)] = computed
        except Exception as error:  # noqa: BLE001  the parent raises it
            return _NO_MEMORY if out_of_memory(error) else type(error).__name__.encode()
        return _DONE


_DONE = b"done"
_NO_MEMORY = b"no memory"


def _send(worker: _Worker, plan: bytes) -> None:
    try:
        worker.pipe.send_bytes(plan)
    except OSError as error:
        raise _worker_death_error(worker) from error


def _receive(worker: _Worker) -> bytes:
    try:
        return worker.pipe.recv_bytes()
    except (EOFError, OSError) as error:
        raise _worker_death_error(worker) from error


def _worker_death_error(worker: _Worker) -> DeathError:
    return DeathError(
        f"worker process {worker.pid} {describe_death(exit_code_of(worker.pid))}",
        hint="Run the same command again. If it fails again, set run.workers: 1 or lower batching.memory_fraction.",
    )
