"""Runs on a real Ray cluster of two nodes on this machine; workers, nodes and drivers are killed.

The rows come from a server that sleeps, so that a kill meets a run in the middle.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.ray_cluster.ray_run import RayCluster, run_on_ray
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import members
from tests.conftest import MakeJob
from tests.engines.openai.fake_server import FakeServer, say, serving, slowly

ray = pytest.importorskip("ray", reason="needs Ray")
pytestmark = pytest.mark.soak

ROWS = [{"q": f"row {n}"} for n in range(160)]
PART_ROWS = 10
WORKERS = 4
OF_THE_RUN = ("run_id", "created_at")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}
    os.environ["RAY_DISABLE_MEMORY_MONITOR"] = "1"  # other tests fill the memory of the machine
    found = Cluster(initialize_head=True, head_node_args=options)
    found.add_node(num_cpus=2, object_store_memory=80_000_000)
    yield found
    found.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with serving(slowly(say, 0.05)) as found:
        yield found


@pytest.fixture
def job(make_job: MakeJob, server: FakeServer) -> Path:
    model = {"engine": "openai", "base_url": server.url}
    return make_job(ROWS, model=model, batching={"part_rows": PART_ROWS, "max_rows": 1})


def start(job: Path, cluster: Any, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--ray", cluster.address]
    return subprocess.Popen(
        [*command, "--ray-workers", str(WORKERS), "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=job.parent,
    )


def finish(driver: "subprocess.Popen[str]") -> dict[str, Any]:
    printed, messages = driver.communicate(timeout=240)
    assert driver.returncode == 0, messages
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def check_rows(job: Path) -> None:
    """The rows of the run are those of a single process, and nothing is damaged."""
    whole = run(load_job(job, overrides=["output.path=whole"])).frame()
    found = pl.read_parquet(job.parent / "out" / "responses.parquet")
    assert found.drop(OF_THE_RUN).equals(whole.drop(OF_THE_RUN))
    assert verify(RunFolder(job.parent / "out")).issues == []


def wait_for_parts(folder: RunFolder, count: int) -> None:
    until = time.monotonic() + 120
    while len(list(folder.parts.glob("*.bgpart"))) < count:
        assert time.monotonic() < until, "no parts are made"
        time.sleep(0.05)


def wait_until_none_lives(folder: RunFolder) -> None:
    until = time.monotonic() + 60
    while any(one.is_alive for one in members(folder)):
        assert time.monotonic() < until, "workers outlive their driver"
        time.sleep(0.2)


def actors() -> list[int]:
    """Processes of Ray's workers that make parts."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(
                b"ray::ShardWorker"
            ):
                found.append(int(entry.name))
    return found


def kill_process(folder: RunFolder, _: Any) -> None:
    os.kill(next(one.content["pid"] for one in members(folder) if one.is_alive), signal.SIGKILL)


def kill_actor(_: RunFolder, __: Any) -> None:
    os.kill(actors()[0], signal.SIGKILL)


def kill_raylet(_: RunFolder, cluster: Any) -> None:
    node = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)
    old = next(one for one in cluster.worker_nodes if one is not node)
    os.kill(old.all_processes["raylet"][0].process.pid, signal.SIGKILL)
    cluster.worker_nodes.discard(old)


def kill_node(folder: RunFolder, cluster: Any) -> None:
    """The raylet and every worker at once; another node is added, whose workers finish the run."""
    kill_raylet(folder, cluster)
    for process in actors():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


KILLS: dict[str, Callable[[RunFolder, Any], None]] = {
    "the process of a worker": kill_process,
    "a worker": kill_actor,
    "a raylet": kill_raylet,
    "a node": kill_node,
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_kill_loses_no_row_and_doubles_none(
    kill: Callable[[RunFolder, Any], None], job: Path, cluster: Any
) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    wait_for_parts(folder, 3)
    kill(folder, cluster)
    found = finish(driver)
    assert found["outcome"] == "done"
    assert sum(one["parts"] for one in found["engine"]["machines"]) <= len(ROWS) / PART_ROWS
    check_rows(job)


def test_a_killed_driver_resumes_and_its_workers_end(job: Path, cluster: Any) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    wait_for_parts(folder, 3)
    driver.kill()
    driver.communicate()
    wait_until_none_lives(folder)
    assert len(list(folder.parts.glob("*.bgpart"))) < len(ROWS) / PART_ROWS
    assert finish(start(job, cluster))["outcome"] == "done"
    check_rows(job)


def test_a_stopped_driver_stops_its_workers_and_one_machine_finishes(
    job: Path, cluster: Any
) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    wait_for_parts(folder, 3)
    driver.terminate()
    driver.communicate(timeout=120)
    assert driver.returncode == -signal.SIGTERM
    wait_until_none_lives(folder)
    result = run(load_job(job))
    assert (result.outcome, result.counts.rows) == ("done", len(ROWS))
    check_rows(job)


def test_a_second_driver_is_refused_while_workers_run(job: Path, cluster: Any) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    wait_for_parts(folder, 1)
    second = start(job, cluster)
    _, messages = second.communicate(timeout=120)
    assert second.returncode == 75
    assert "shards are running" in messages
    assert finish(driver)["outcome"] == "done"


def test_a_worker_that_cannot_make_parts_ends_the_run_by_name(job: Path, cluster: Any) -> None:
    """Another version than that of the workers before, as on a node that was set up at another time."""
    folder = RunFolder(job.parent / "out")
    first = start(job, cluster)
    wait_for_parts(folder, 1)
    first.terminate()
    first.communicate(timeout=120)
    folder.write_json(
        folder.shards / "versions.json", {"versions": {"torch": "1.0"}}, stage="versions"
    )
    second = start(job, cluster)
    _, messages = second.communicate(timeout=120)
    assert second.returncode == 6
    assert "torch" in messages
    assert "Traceback" not in messages


def test_a_cluster_of_this_machine_alone(make_job: MakeJob) -> None:
    job = make_job(ROWS, batching={"part_rows": PART_ROWS})
    result = run_on_ray(load_job(job), ("run", str(job)), RayCluster("local", 2))
    assert (result.outcome, result.counts.rows) == ("done", len(ROWS))
    check_rows(job)
