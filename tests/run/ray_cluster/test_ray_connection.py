"""Addresses of clusters that cannot be used: an error before Ray is imported, and before anything waits."""

from pathlib import Path

import pytest

from batchgen.errors import BatchgenError, ResourceError, UsageError
from batchgen.jobfile.load import load_job
from batchgen.run.ray_cluster.ray_connection import connect
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


def test_a_run_without_a_cluster_keeps_what_was_there(make_job: MakeJob) -> None:
    job = load_job(make_job())
    with pytest.raises(ResourceError):
        run_on_ray(job, ("run",), RayCluster("127.0.0.1:1"))
    assert (Path(job.job.output.path) / ".batchgen" / "run.json").exists()


def test_a_budget_of_tokens_is_of_one_process(make_job: MakeJob) -> None:
    job = load_job(make_job(run={"max_total_tokens": 10}))
    with pytest.raises(UsageError, match="max_total_tokens"):
        run_on_ray(job, ("run",), RayCluster("local"))
