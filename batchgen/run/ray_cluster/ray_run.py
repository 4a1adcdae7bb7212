"""`--ray`: a run whose parts are made by workers on the nodes of a Ray cluster.

    begin, publish nothing ─> hire workers ─> each is `--shard any` in the shared folder ─> all parts sealed ─> publish

Who makes which part is decided by claims in the run's folder (`state/shards/claims.py`), not by this process: it may die, and a
worker that Ray takes for dead may live, without a part being made twice or lost. This process replaces workers that die.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from batchgen.engines.engine_registry import open_engine
from batchgen.errors import (
    BatchgenError,
    ExitCode,
    LockedError,
    ResourceError,
    StateError,
    UsageError,
)
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.jobfile.load import LoadedJob
from batchgen.progress import SILENT, Reporter, RowProgress, Unit
from batchgen.run.publication import is_complete
from batchgen.run.ray_cluster.ray_connection import connect, default_workers, hire, needed_gpus
from batchgen.run.ray_cluster.shard_worker import ShardCommand, WorkerReport
from batchgen.run.result import RunResult
from batchgen.run.run import Start, run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.run.stop_signals import (
    FAILURES_BEFORE_STOP,
    Deadline,
    FailureLimit,
    StopCondition,
    job_deadlines,
)
from batchgen.state.identity import Identity, read_identity
from batchgen.state.parts import Counts
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import record_end
from batchgen.state.shards.shared_parts import SharedPartStore

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
class RayCluster:
    """Where workers are started: the address of the cluster, and how many; None for one a node, or one an engine's GPUs."""

    address: str
    workers: int | None = None


def run_on_ray(  # noqa: PLR0913  # as `run`: every argument but the first three has a default
    loaded: LoadedJob,
    words: Sequence[str],
    cluster: RayCluster,
    *,
    start: Start = "resume",
    incremental_from: Path | None = None,
    reporter: Reporter = SILENT,
    stop: Callable[[], bool] = lambda: False,
    deadlines: Sequence[Deadline] = (),
    opener: EngineOpener = open_engine,
) -> RunResult:
    """Run a job, or resume it, on a cluster.

    Args:
        loaded: the job.
        words: the command line, after `batchgen`, of the `run` that workers start with `--shard any`.
        cluster: where, and how many workers.
        start: what to do with a run that is already in the output folder.
        incremental_from: as for `run`.
        reporter: receives messages and progress.
        stop: called once or twice a second; once true, the workers stop and the run can be resumed.
        deadlines: when to stop, in addition to `run.max_runtime`.
        opener: opens the engine with which this process evaluates the answers.

    Raises:
        BatchgenError: the run cannot start or cannot finish; parts that are sealed stay.
    """
    if loaded.job.run.max_total_tokens is not None:
        raise UsageError(
            "--ray: run.max_total_tokens is of the whole run, and workers do not count together",
            hint="Add --set run.max_total_tokens=null, or run without --ray.",
        )
    folder = RunFolder(Path(loaded.job.output.path))
    stopping = StopCondition(stop, job_deadlines(loaded.job.run, deadlines))
    publish = partial(
        run,
        loaded,
        incremental_from=incremental_from,
        reporter=reporter,
        stop=stop,
        deadlines=deadlines,
        opener=opener,
        executor=NoExecutor(folder),
    )
    begun = publish(start=start)
    if begun.outcome != "stopped" or stopping():
        return begun
    with connect(cluster.address) as ray:
        driver = _Driver(ray, loaded, folder, (*words, "--shard", "any", "--json"), begun, reporter)
        gpus = needed_gpus(ray, loaded.job.model)
        workers = cluster.workers or default_workers(ray, gpus)
        reporter.info(
            f"Ray {cluster.address}: {workers:,} workers; their logs are in {driver.logs}"
        )
        stopped = driver.make_parts(workers, gpus, stopping)
    result = _when_free(publish)
    why = stopped or result.why_stopped
    return replace(result, why_stopped=why) if result.outcome == "stopped" else result


@dataclass(frozen=True, slots=True)
class _Hiring:
    workers: int
    gpus: int


@dataclass(slots=True)
class _Worker:
    """A hired worker: `host` is empty until it is on a node, `process` is 0 until it makes parts."""

    actor: Any
    task: Any
    place: Any
    host: str = ""
    process: int = 0


@dataclass(slots=True)
class _Driver:
    """Workers of one start of a run, from the first that is hired to the last that ends."""

    ray: ModuleType
    loaded: LoadedJob
    folder: RunFolder
    words: tuple[str, ...]
    begun: RunResult
    reporter: Reporter
    _workers: list[_Worker] = field(default_factory=list)
    _counted: dict[int, Counts] = field(default_factory=dict)
    _deaths: int = 0
    _last_death: str = ""

    @property
    def logs(self) -> Path:
        return self.folder.private / LOGS

    def make_parts(self, workers: int, gpus: int, stopping: StopCondition) -> str:
        """Hire workers until no part is missing. Returns why the run stops early; empty if it does not.

        Raises:
            BatchgenError: that of a worker that cannot make parts, or of several that died one after another.
        """
        identity = read_identity(self.folder)
        if identity is None:
            raise StateError(f"{self.folder.run} has vanished", hint="Run the same command again.")
        self._count(RowProgress())
        job, total, done = self.loaded.job, self.begun.expected_rows, self._counts.rows
        unit: Unit = "answer" if self.begun.samples > 1 else "row"
        with self.reporter.rows(job.name, total, done, unit=unit) as progress:
            try:
                return self._work(identity, _Hiring(workers, gpus), stopping, progress)
            finally:
                for worker in self._workers:
                    self.ray.kill(worker.actor)

    def _work(
        self, identity: Identity, hiring: _Hiring, stopping: StopCondition, progress: RowProgress
    ) -> str:
        while missing := self._missing(identity):
            why = stopping.reason() or self._too_many_failed or self._too_many_deaths(hiring)
            if why or stopping():
                self._stop()
                return why
            while len(self._workers) < min(hiring.workers, missing):
                self._hire(hiring)
            if why := self._look():
                self._stop()
                return why
            self._count(progress)
        self._wait(_SECONDS_TO_END)
        return ""

    def _missing(self, identity: Identity) -> int:
        if is_complete(self.folder, identity):  # published by another process in the meantime
            return 0
        return identity.parts - len(self._counted)

    def _hire(self, hiring: _Hiring) -> None:
        actor = hire(self.ray, workers=hiring.workers, gpus=hiring.gpus)
        command = ShardCommand(
            words=self.words,
            working_folder=Path.cwd(),
            output=self.folder.path,
            run_id=self.begun.run_id,
            log=self.logs
            / f"{time.strftime('%Y%m%dT%H%M%S')}-HOST-{actor._actor_id.hex()[:8]}.log",
        )
        self._workers.append(_Worker(actor, actor.run.remote(command), actor.place.remote()))

    def _look(self) -> str:
        """Wait a moment for workers that end. Returns why the run is to stop; empty if it is not."""
        tasks = {worker.task: worker for worker in self._workers}
        ended, _ = self.ray.wait(list(tasks), timeout=_SECONDS_BETWEEN_LOOKS)
        for worker in map(tasks.__getitem__, ended):
            self._workers.remove(worker)
            if why := self._after_end(worker):
                return why
        for worker in self._workers:
            self._learn_place(worker)
        return ""

    def _after_end(self, worker: _Worker) -> str:
        try:
            report: WorkerReport = self.ray.get(worker.task)
        except self.ray.exceptions.RayError as error:
            host = worker.host
            record_end(self.folder, host, worker.process)
            preempted = bool(getattr(error, "preempted", False))
            self._after_death(host, "preempted" if preempted else type(error).__name__)
            self._deaths -= preempted
            return ""
        if report.died:
            self._after_death(report.host, f"its process was killed by signal {-report.exit_code}")
            return ""
        if report.exit_code == ExitCode.RUN_AGAIN:
            return f"the worker on {report.host} stopped: {report.error or 'by a signal'}"
        if report.exit_code:
            self._stop()
            kind = _ERRORS.get(report.exit_code, ResourceError)
            message, _, hint = report.error.partition("\n")
            raise kind(
                f"the worker on {report.host} failed: {message or f'exit code {report.exit_code}'}",
                hint=f"{hint.strip()} Its log: {report.log}".strip(),
            )
        return ""

    def _after_death(self, host: str, what: str) -> None:
        self._deaths += 1
        self._last_death = f"{f'on {host} ' if host else ''}({what})"
        self.reporter.info(f"a worker is gone {self._last_death}; another one is started")

    def _too_many_deaths(self, hiring: _Hiring) -> str:
        """Why no further worker is started: a row or a node that kills every worker would do so for ever."""
        if self._deaths <= _MOST_DEATHS * hiring.workers:
            return ""
        return f"{self._deaths} workers died without sealing a part, the last {self._last_death}; their logs are in {self.logs}"

    def _learn_place(self, worker: _Worker) -> None:
        """Note host and process of a worker while it lives: afterwards, nobody answers."""
        if worker.process or not self.ray.wait([worker.place], timeout=0)[0]:
            return
        try:
            worker.host, worker.process = self.ray.get(worker.place)
        except self.ray.exceptions.RayError:  # `run` reports it
            return
        if not worker.process:
            worker.place = worker.actor.place.remote()

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
        """Count the parts that have been sealed since the last look."""
        store = SharedPartStore(self.folder, compression=self.loaded.job.output.compression)
        found = store.recorded(store.numbers() - self._counted.keys())
        for number, part in found.items():
            self._counted[number] = part.counts
            counts = part.counts
            progress.add(counts.rows, new_tokens=counts.output_tokens, failed=counts.failed)
        if found:
            self._deaths = 0

    @property
    def _counts(self) -> Counts:
        return sum(self._counted.values(), Counts())

    @property
    def _too_many_failed(self) -> str:
        limit = FailureLimit(self.loaded.job.run, self.begun.expected_rows)
        failed = self._counts.failed
        if failed < FAILURES_BEFORE_STOP or failed <= limit.allowed:
            return ""
        return f"{failed:,} of {limit.answers:,} failed, {limit.allowed:,} allowed ({limit.key})"


def _when_free(publish: Callable[[], RunResult]) -> RunResult:
    """Publish, once processes of nodes that were lost have ended too: they hold the run's lock."""
    until = time.monotonic() + _SECONDS_TO_END
    while True:
        try:
            return publish()
        except LockedError:
            if time.monotonic() > until:
                raise
            time.sleep(_SECONDS_BETWEEN_LOOKS)
