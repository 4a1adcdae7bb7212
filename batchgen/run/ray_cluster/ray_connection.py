"""The edge to Ray: import it, connect to a cluster, place workers, and translate its errors."""

import importlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from batchgen.engines.engine_registry import find_engine, required_weights
from batchgen.errors import DataError, ResourceError, UsageError
from batchgen.job.spec import ModelSpec
from batchgen.run.ray_cluster.shard_process import MODEL_MODULES, MODULES
from batchgen.run.ray_cluster.shard_worker import ShardWorker

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}
"""No statistics are sent to anybody; an actor without GPUs does not change what its process sees of them."""
_OBJECT_STORE_BYTES = 80_000_000
"""Ray's smallest, about: no row goes through it."""
_SECONDS_TO_CONNECT = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def connect(address: str) -> Iterator[ModuleType]:
    """Ray, connected to a cluster for the block.

    Args:
        address: `auto`, `HOST:PORT`, or `local` for a cluster of this machine alone that ends with the block.

    Raises:
        DataError: Ray is not installed.
        ResourceError: the cluster cannot be reached.
    """
    _check_reachable(address)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray = _imported()
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreachable(address, error) from error
    except Exception as error:  # of a node that takes too long to start, Ray raises no other type
        if type(error) is not Exception:
            raise
        raise ResourceError(
            f"--ray {address}: Ray did not start ({_first_line(error)})",
            hint="Repeat the same command once the machine has less other work.",
        ) from error
    try:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray replaces some of them
                signal.signal(number, handler)
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ResourceError if nothing listens there: Ray itself would wait for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(
            f"--ray {address}: expected auto, local or HOST:PORT",
            hint="Give the port of Ray's head node, 6379 unless `ray start` was given another one.",
        )
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> ResourceError:
    return ResourceError(
        f"--ray {address}: no cluster can be reached there ({_first_line(error)})",
        hint="Start one with `ray start --head`, give HOST:PORT of its head node, or use --ray local. "
        "If the cluster requires a token, set RAY_AUTH_MODE=token.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _imported() -> ModuleType:
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise DataError(
            "--ray needs the package ray, which is not installed",
            hint="Install the extra on all nodes: pip install 'batchgen-llm[ray]'.",
        ) from error


def default_workers(ray: ModuleType, gpus: int) -> int:
    """One for each `gpus` GPUs of the cluster; where a worker needs none, one for each node."""
    if gpus:
        return max(1, int(ray.cluster_resources().get("GPU", 0)) // gpus)
    return max(1, sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")))


@dataclass(frozen=True, slots=True)
class Hiring:
    """The workers of a run: how many, the GPUs of each, and the modules that they import while the run begins."""

    workers: int
    gpus: int
    modules: tuple[str, ...] = MODULES


@dataclass(frozen=True, slots=True)
class RayCrew:
    """A connected cluster, whom to hire there, and the actors that are hired and have nothing to do yet."""

    ray: ModuleType
    hiring: Hiring
    actors: list[Any] = field(default_factory=list)

    def next_actor(self) -> Any:  # noqa: ANN401  # Ray's handle of an actor
        """One of those that are hired, or a new one."""
        return self.actors.pop() if self.actors else hire(self.ray, self.hiring)

    def dismiss_idle(self) -> None:
        """End the actors that have nothing to do."""
        while self.actors:
            self.ray.kill(self.actors.pop())


def plan_hiring(ray: ModuleType, model: ModelSpec, workers: int | None) -> Hiring:
    """The workers for a job's model: the number that the user wants, or that of the cluster."""
    gpus = needed_gpus(ray, model)
    loads_model = model.path is not None and required_weights(model) is not None
    modules = (*MODULES, *MODEL_MODULES) if loads_model else MODULES
    return Hiring(workers or default_workers(ray, gpus), gpus, modules)


def hire(ray: ModuleType, hiring: Hiring) -> Any:  # noqa: ANN401  # Ray's handle of an actor
    """Start a worker on a node with free resources; it waits for one if there is none.

    A worker of a node with c processors gets c divided by the workers of a node: Ray gives its process that number of threads.
    """
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    nodes = [int(count) for count in nodes if count] or [1]
    per_node = -(-hiring.workers // len(nodes))
    actor = ray.remote(ShardWorker).options(
        num_cpus=max(1, min(nodes) // per_node),
        num_gpus=hiring.gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=4,
        scheduling_strategy="SPREAD",
    )
    return actor.remote(hiring.modules)


def needed_gpus(ray: ModuleType, model: ModelSpec) -> int:
    """GPUs of a worker: those of one engine, if the cluster has any and the model is computed on them."""
    has_gpus = bool(ray.cluster_resources().get("GPU"))
    if not has_gpus or model.device == "cpu" or find_engine(model.engine).info.needs != "weights":
        return 0
    return model.tensor_parallel
