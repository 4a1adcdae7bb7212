"""Addresses of clusters that cannot be used: an error before Ray is imported, and before anything waits."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from batchgen.errors import BatchgenError, ResourceError, UsageError
from batchgen.job.spec import ModelSpec
from batchgen.jobfile.load import load_job
from batchgen.run.ray_cluster.ray_connection import connect, plan_hiring
from batchgen.run.ray_cluster.ray_run import RayCluster, run_on_ray
from tests.conftest import MakeJob


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("127.0.0.1:1", ResourceError, "no cluster can be reached there"),
        ("127.0.0.1:99999", ResourceError, "no cluster can be reached there"),
        ("localhost", UsageError, "expected auto, local or HOST:PORT"),
        (":6379", UsageError, "expected auto, local or HOST:PORT"),
        ("ray://head:10001", UsageError, "expected auto, local or HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster(address: str, kind: type[BatchgenError], words: str) -> None:
    with pytest.raises(kind, match="--ray") as caught, connect(address):
        pass
    assert words in caught.value.message
    assert caught.value.hint


def test_a_node_that_takes_too_long_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine Ray gives up after 30 seconds, with an error of no type of its own."""

    def init(**_options: object) -> None:
        raise Exception("The current node timed out during startup.")  # noqa: TRY002  # as Ray does

    monkeypatch.setitem(sys.modules, "ray", cast(ModuleType, SimpleNamespace(init=init)))
    with pytest.raises(ResourceError, match="timed out during startup") as caught, connect("local"):
        pass
    assert caught.value.hint


def test_a_run_without_a_cluster_keeps_what_was_there(make_job: MakeJob) -> None:
    job = load_job(make_job())
    with pytest.raises(ResourceError):
        run_on_ray(job, ("run",), RayCluster("127.0.0.1:1"))
    assert (Path(job.job.output.path) / ".batchgen" / "run.json").exists()


def nodes(*resources: dict[str, float], alive: bool = True) -> ModuleType:
    """What is used of Ray, of a cluster with these nodes and a dead one."""
    listed = [{"Alive": alive, "Resources": one} for one in resources]
    gpus = sum(one.get("GPU", 0) for one in resources)
    found: Any = SimpleNamespace(
        nodes=lambda: [*listed, {"Alive": False, "Resources": {"CPU": 64}}],
        cluster_resources=lambda: {"GPU": gpus} if gpus else {},
    )
    return cast(ModuleType, found)


CPUS = nodes({"CPU": 4}, {"CPU": 8}, {})
GPUS = nodes({"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4})


@pytest.mark.parametrize(
    ("cluster", "model", "gpus", "workers"),
    [
        (CPUS, {"engine": "transformers"}, 0, 2),
        (CPUS, {"engine": "vllm", "tensor_parallel": 2}, 0, 2),
        (GPUS, {"engine": "transformers"}, 1, 8),
        (GPUS, {"engine": "vllm", "tensor_parallel": 4}, 4, 2),
        (GPUS, {"engine": "transformers", "device": "cpu"}, 0, 2),
        (GPUS, {"engine": "echo"}, 0, 2),
        (GPUS, {"engine": "openai", "base_url": "http://localhost/v1"}, 0, 2),
    ],
)
def test_workers_follow_the_gpus_of_an_engine(
    cluster: ModuleType, model: dict[str, Any], gpus: int, workers: int
) -> None:
    hiring = plan_hiring(cluster, ModelSpec(**model), None)
    assert (hiring.gpus, hiring.workers) == (gpus, workers)
    assert plan_hiring(cluster, ModelSpec(**model), 3).workers == 3


@pytest.mark.parametrize(
    ("model", "imports_torch"),
    [
        ({"engine": "transformers", "path": "a-model"}, True),
        ({"engine": "echo", "path": "a-model"}, True),
        ({"engine": "echo"}, False),
        ({"engine": "openai", "path": "a-model", "base_url": "http://localhost/v1"}, False),
    ],
)
def test_workers_import_early_what_their_model_needs(
    model: dict[str, Any], imports_torch: bool
) -> None:
    assert ("torch" in plan_hiring(CPUS, ModelSpec(**model), None).modules) is imports_torch
