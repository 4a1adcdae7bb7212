"""`--ray`: a run whose parts are made by workers on the nodes of a Ray cluster.

    begin, publish nothing ─┐
    connect, hire workers  ─┴> each is `--shard any` in the shared folder ─> all parts sealed ─> publish

Who makes which part is decided by claims in the run's folder (`state/shards/claims.py`), not by this process: it may die, and a
worker that Ray takes for dead may live, without a part being made twice or lost. This process replaces workers that die.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from batchgen.engines.engine_registry import open_engine
from batchgen.errors import LockedError
from batchgen.evaluation.metric_queries import queries_models
from batchgen.evaluation.model_queries.scoring_model import EngineOpener
from batchgen.jobfile.load import LoadedJob
from batchgen.progress import SILENT, Reporter
from batchgen.run.ray_cluster.ray_connection import RayCrew, connect, hire, plan_hiring
from batchgen.run.ray_cluster.ray_driver import RayDriver
from batchgen.run.result import RunResult
from batchgen.run.run import Start, run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.run.stop_signals import Deadline, StopCondition, job_deadlines
from batchgen.state.bucket_state import open_parts_home
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import exists

_SECONDS_BETWEEN_TRIES = 0.5
_SECONDS_TO_END = 60.0
"""For processes of nodes that were lost: they hold the run's lock until they see that no part is missing."""


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
    folder = RunFolder(Path(loaded.job.output.path))
    stopping = StopCondition(stop, job_deadlines(loaded.job.run, deadlines))
    publish = partial(
        run,
        loaded,
        incremental_from=incremental_from,
        reporter=reporter,
        stop=stop,
        deadlines=stopping.deadlines,
        opener=opener,
    )
    waits = queries_models(loaded.job)
    is_resumed = exists(folder.run) and start != "fresh"
    with ExitStack() as connection, ThreadPoolExecutor(1) as thread:
        early = None
        if not folder.complete or start == "fresh":
            early = thread.submit(_gather, connection, cluster, loaded, hires=not is_resumed)
        begun = publish(start=start, executor=NoExecutor(folder, publishes=not waits))
        if begun.outcome != "stopped" or stopping():
            return begun
        crew = early.result() if early else _gather(connection, cluster, loaded, hires=False)
        words = (*words, "--shard", "any", "--json")
        home = open_parts_home(folder, loaded.job.output, fresh=False)
        driver = RayDriver(crew, loaded, home, words, begun, reporter)
        reporter.info(
            f"Ray {cluster.address}: {crew.hiring.workers:,} workers; their logs are in {driver.logs}"
        )
        stopped = driver.make_parts(stopping, queries_models=waits)
        closed = thread.submit(connection.close)
        is_stopped = stopping() or bool(stopped.why)
        executor = NoExecutor(folder, publishes=not (waits and is_stopped))
        result = _when_free(partial(publish, executor=executor))
        closed.result()
    if result.outcome != "stopped":
        return result
    return replace(
        result,
        why_stopped=stopped.why or result.why_stopped,
        stopped_by_failures=stopped.by_failures,
    )


def _gather(
    connection: ExitStack, cluster: RayCluster, loaded: LoadedJob, *, hires: bool
) -> RayCrew:
    """Connect, until `connection` is closed. The workers of a run that begins are hired at once, and import in that time."""
    ray = connection.enter_context(connect(cluster.address))
    hiring = plan_hiring(ray, loaded.job.model, cluster.workers)
    return RayCrew(ray, hiring, [hire(ray, hiring) for _ in range(hiring.workers if hires else 0)])


def _when_free(publish: Callable[[], RunResult]) -> RunResult:
    """Publish, once processes of nodes that were lost have ended too: they hold the run's lock."""
    until = time.monotonic() + _SECONDS_TO_END
    while True:
        try:
            return publish()
        except LockedError:
            if time.monotonic() > until:
                raise
            time.sleep(_SECONDS_BETWEEN_TRIES)
