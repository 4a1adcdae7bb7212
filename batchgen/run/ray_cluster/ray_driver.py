"""The driver of a run on a Ray cluster: it hires workers, replaces those that die, and counts the parts that are sealed."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from batchgen.errors import BatchgenError, ExitCode, ResourceError, StateError, UsageError
from batchgen.jobfile.load import LoadedJob
from batchgen.progress import Reporter, RowProgress
from batchgen.run.publication import is_complete
from batchgen.run.ray_cluster.ray_connection import RayCrew
from batchgen.run.ray_cluster.shard_worker import ShardCommand, WorkerReport
from batchgen.run.result import RunResult
from batchgen.run.stop_signals import FailureLimit, FailureWatch, StopCondition
from batchgen.state.bucket_state import PartsHome
from batchgen.state.identity import Identity, read_identity
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.bucket_shards import SharedBucketParts, record_bucket_end
from batchgen.state.shards.members import record_end
from batchgen.state.shards.sealed_counter import SealedCounter
from batchgen.state.shards.shared_parts import SharedPartStore
from batchgen.work_left import Unit

LOGS = "logs"
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_STOP = 120.0
"""A worker that is stopped has this long to end its step and save its answers."""
_SECONDS_TO_END = 60.0
"""For workers to see that no part is missing, and to release the run's lock."""
_MOST_DEATHS = 3
"""Of each worker, without a part being sealed in between."""
_ERRORS: dict[int, type[BatchgenError]] = {2: UsageError, 6: StateError}


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """Why a run stops early; empty if the user stops it. `by_failures`: too many rows failed."""

    why: str = ""
    by_failures: bool = False


@dataclass(slots=True)
class _Worker:
    """A hired worker: `host` is empty and `process` 0 until it is on a node."""

    actor: Any
    task: Any
    place: Any
    host: str = ""
    process: int = 0


@dataclass(slots=True)
class RayDriver:
    """Workers of one start of a run, from the first that is hired to the last that ends."""

    crew: RayCrew
    loaded: LoadedJob
    home: PartsHome
    words: tuple[str, ...]
    begun: RunResult
    reporter: Reporter
    _workers: list[_Worker] = field(default_factory=list)
    _counter: SealedCounter = field(init=False)
    _has_finished: bool = False
    _deaths: int = 0
    _last_death: str = ""

    @property
    def folder(self) -> RunFolder:
        return self.home.folder

    @property
    def logs(self) -> Path:
        return self.folder.private / LOGS

    @property
    def ray(self) -> ModuleType:
        return self.crew.ray

    def make_parts(self, stopping: StopCondition, *, queries_models: bool) -> EarlyStop:
        """Hire workers until no part is missing, or the run is to stop; returns why it did, if it did.

        With `queries_models`, until the models of the evaluation have been queried about all parts too.

        Raises:
            BatchgenError: that of a worker that cannot make parts, or of several that died one after another.
        """
        identity = read_identity(self.folder)
        if identity is None:
            raise StateError(f"{self.folder.run} has vanished", hint="Run the same command again.")
        self._counter = SealedCounter(self._store(identity), identity.output_rows)
        self._count(RowProgress())
        job, total, done = self.loaded.job, self.begun.expected_rows, self._counter.counts.rows
        unit: Unit = "answer" if self.begun.samples > 1 else "row"
        with self.reporter.rows(job.name, total, done, unit=unit) as progress:
            try:
                return self._work(identity, stopping, progress, queries_models=queries_models)
            finally:
                self.crew.dismiss_idle()
                for worker in self._workers:
                    self.ray.kill(worker.actor)

    def _store(self, identity: Identity) -> SharedPartStore | SharedBucketParts:
        state, compression = self.home.state, self.home.compression
        if state is None:
            return SharedPartStore(self.folder, compression=compression)
        return SharedBucketParts(self.folder, state, identity.run_id, compression=compression)

    def _work(
        self,
        identity: Identity,
        stopping: StopCondition,
        progress: RowProgress,
        *,
        queries_models: bool,
    ) -> EarlyStop:
        while True:
            missing = self._missing(identity)
            if not missing and (not queries_models or self._has_finished):
                break
            if (found := self._reason(stopping)) is not None:
                self._stop()
                return found
            most = identity.parts if queries_models else missing
            while len(self._workers) < min(self.crew.hiring.workers, most):
                self._hire()
            self.crew.dismiss_idle()
            if (found := self._look()) is not None:
                self._stop()
                return found
            self._count(progress)
        self._wait(_SECONDS_TO_END)
        return EarlyStop()

    def _reason(self, stopping: StopCondition) -> EarlyStop | None:
        if stopping():
            return EarlyStop(stopping.reason())
        limit = FailureLimit(self.loaded.job.run, self.begun.expected_rows)
        if failures := FailureWatch(limit, self._counter.counts.failed).reason:
            return EarlyStop(failures, by_failures=True)
        if (
            self._deaths > _MOST_DEATHS * self.crew.hiring.workers
        ):  # a row or a node that kills every worker
            return EarlyStop(
                f"{self._deaths} workers died without sealing a part, the last {self._last_death}; their logs are in {self.logs}"
            )
        return None

    def _missing(self, identity: Identity) -> int:
        if is_complete(self.folder, identity):  # published by another process in the meantime
            return 0
        return identity.parts - len(self._counter.numbers)

    def _hire(self) -> None:
        actor = self.crew.next_actor()
        command = ShardCommand(
            words=self.words,
            working_folder=Path.cwd(),
            shared=None if self.home.state else (self.folder.path, self.begun.run_id),
            log=self.logs
            / f"{time.strftime('%Y%m%dT%H%M%S')}-HOST-{actor._actor_id.hex()[:8]}.log",
        )
        self._workers.append(_Worker(actor, actor.run.remote(command), actor.place.remote()))

    def _look(self) -> EarlyStop | None:
        """Wait a moment for workers that end. Returns why the run is to stop, if it is."""
        tasks = {worker.task: worker for worker in self._workers}
        ended, _ = self.ray.wait(list(tasks), timeout=_SECONDS_BETWEEN_LOOKS)
        for worker in map(tasks.__getitem__, ended):
            self._workers.remove(worker)
            if (found := self._after_end(worker)) is not None:
                return found
        for worker in self._workers:
            self._learn_place(worker)
        return None

    def _after_end(self, worker: _Worker) -> EarlyStop | None:
        try:
            report: WorkerReport = self.ray.get(worker.task)
        except self.ray.exceptions.RayError as error:
            record_end(self.folder, worker.host, worker.process)
            if self.home.state is not None:
                run_id = self.begun.run_id
                record_bucket_end(self.home.state, run_id, worker.host, worker.process)
            preempted = bool(getattr(error, "preempted", False))
            what = "preempted" if preempted else type(error).__name__
            self._after_death(worker.host, what, is_fault=not preempted)
            return None
        if report.died:
            what = f"its process was killed by signal {-report.exit_code}"
            self._after_death(report.host, what, is_fault=True)
            return None
        if report.exit_code in (ExitCode.RUN_AGAIN, ExitCode.TOO_MANY_FAILED_ROWS):
            return EarlyStop(
                f"the worker on {report.host} stopped: {report.error or 'by a signal'}",
                by_failures=report.exit_code == ExitCode.TOO_MANY_FAILED_ROWS,
            )
        if report.exit_code:
            self._stop()
            kind = _ERRORS.get(report.exit_code, ResourceError)
            message, _, hint = report.error.partition("\n")
            raise kind(
                f"the worker on {report.host} failed: {message or f'exit code {report.exit_code}'}",
                hint=f"{hint.strip()} Its log: {report.log}".strip(),
            )
        self._has_finished = True  # a worker ends when nothing is left to do
        return None

    def _after_death(self, host: str, what: str, *, is_fault: bool) -> None:
        self._deaths += is_fault
        self._last_death = f"{f'on {host} ' if host else ''}({what})"
        self.reporter.info(f"a worker is gone {self._last_death}; another one is started")

    def _learn_place(self, worker: _Worker) -> None:
        """Note host and process of a worker while it lives: afterwards, nobody answers."""
        if not worker.process and self.ray.wait([worker.place], timeout=0)[0]:
            with suppress(self.ray.exceptions.RayError):  # `run` reports it
                worker.host, worker.process = self.ray.get(worker.place)

    def _stop(self) -> None:
        for worker in self._workers:
            worker.actor.stop.remote()
        self._wait(_SECONDS_TO_STOP)

    def _wait(self, seconds: float) -> None:
        """Wait until the workers that have a node end; those that wait for one never do."""
        tasks = [worker.task for worker in self._workers if worker.host]
        if tasks:
            self.ray.wait(tasks, num_returns=len(tasks), timeout=seconds)

    def _count(self, progress: RowProgress) -> None:
        """Show the parts that have been sealed since the last look."""
        if (new := self._counter.look()) is not None:
            progress.add(new.rows, new_tokens=new.output_tokens, failed=new.failed)
            self._deaths = 0
