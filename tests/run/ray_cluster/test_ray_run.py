"""Runs on a real Ray cluster of two nodes on this machine; workers, nodes and drivers are killed.

The rows come from a server that holds answers back, so that a kill meets a run in the middle. A start of a cluster, a driver or a
worker takes seconds: one run is hit by several faults, one after another.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.state.run_folder import RunFolder
from batchgen.storage.entries import list_folder
from tests.conftest import MakeJob
from tests.object_store import FaultyStore
from tests.run.ray_cluster.cluster_tools import (
    PART_ROWS,
    ROWS,
    WORKERS,
    Gate,
    TwoNodes,
    alone,
    check_rows,
    finish,
    gated_server,
    kill_a_process,
    sealed_parts,
    start,
    wait_for_parts,
    wait_until,
    wait_until_none_lives,
)

pytest.importorskip("ray", reason="needs Ray")
pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    found = TwoNodes()
    yield found
    found.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with gated_server() as found:
        yield found


@pytest.fixture
def job(make_job: MakeJob, gate: Gate) -> Path:
    return make_job(ROWS, model=gate.model, batching={"part_rows": PART_ROWS, "max_rows": 1})


def test_kills_of_workers_and_nodes_lose_no_row_and_double_none(
    make_job: MakeJob, gate: Gate, cluster: TwoNodes
) -> None:
    """The process of a worker, a worker, a raylet, and a node with its workers; another node takes the place of each."""
    rows = ROWS * 2  # More than pass before the last kill: three parts before each.
    job = make_job(rows, model=gate.model, batching={"part_rows": PART_ROWS, "max_rows": 1})
    folder = RunFolder(job.parent / "out")

    def kill_a_worker() -> None:
        os.kill(cluster.actors()[0], signal.SIGKILL)

    def kill_a_node() -> None:
        cluster.lose_raylet()
        for process in cluster.actors():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def kill_a_raylet() -> None:
        cluster.lose_raylet()

    def kill_process() -> None:
        kill_a_process(folder)

    driver = start(job, cluster)
    for kill in (kill_process, kill_a_worker, kill_a_raylet, kill_a_node):
        sealed = sealed_parts(folder)
        gate.let_a_part_pass()
        wait_for_parts(folder, sealed + 1)
        assert sealed_parts(folder) < len(rows) / PART_ROWS
        kill()
    gate.let_pass()
    found = finish(driver)
    assert found["outcome"] == "done"
    assert sum(one["parts"] for one in found["engine"]["machines"]) <= len(rows) / PART_ROWS
    check_rows(job)


def test_workers_of_a_node_that_joins_get_parts_at_once_and_a_second_driver_none(
    job: Path, gate: Gate, cluster: TwoNodes
) -> None:
    """One worker more is wanted than the nodes have room for, until another one joins."""
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster, "--ray-workers", str(WORKERS + 1))
    wait_for_owners(folder, WORKERS)
    second = start(job, cluster)
    cluster.add_node()
    wait_for_owners(folder, WORKERS + 1)
    _, messages = second.communicate(timeout=120)
    assert second.returncode == 75
    assert "shards are running" in messages
    gate.let_pass()
    found = finish(driver)
    assert len(found["engine"]["machines"]) == WORKERS + 1
    check_rows(job)


def wait_for_owners(folder: RunFolder, count: int) -> None:
    """Wait until so many workers have claimed parts."""

    def owners() -> set[str]:
        return {str(claim.readlink()) for claim in list_folder(folder.claims)}

    wait_until(lambda: len(owners()) >= count, "they claim no part")


def start_and_seal_a_part(job: Path, gate: Gate, cluster: TwoNodes) -> "subprocess.Popen[str]":
    """A run that has sealed a part and waits for rows."""
    gate.let_a_part_pass()
    driver = start(job, cluster)
    wait_for_parts(RunFolder(job.parent / "out"), 1)
    return driver


def test_a_killed_driver_resumes_and_a_stopped_one_leaves_the_rest_to_one_machine(
    job: Path, gate: Gate, cluster: TwoNodes
) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start_and_seal_a_part(job, gate, cluster)
    driver.kill()
    driver.communicate()
    wait_until_none_lives(folder)
    sealed = sealed_parts(folder)
    driver = start(job, cluster)
    gate.let_a_part_pass()
    wait_for_parts(folder, sealed + 1)
    driver.terminate()
    gate.let_pass(WORKERS)  # the rows that are in flight
    driver.communicate(timeout=120)
    assert driver.returncode == -signal.SIGTERM
    wait_until_none_lives(folder)
    assert sealed + 1 <= sealed_parts(folder) < len(ROWS) / PART_ROWS
    gate.let_pass()
    result = alone(job)
    assert (result.outcome, result.counts.rows) == ("done", len(ROWS))
    assert result.resumed_rows >= (sealed + 1) * PART_ROWS
    check_rows(job)


def test_a_worker_that_cannot_make_parts_ends_the_run_by_name(job: Path, cluster: TwoNodes) -> None:
    """Another version than that of the workers before, as on a node that was set up at another time."""
    folder = RunFolder(job.parent / "out")
    run(load_job(job), executor=NoExecutor(folder))
    folder.shards.mkdir()
    folder.write_json(
        folder.shards / "versions.json", {"versions": {"torch": "1.0"}}, stage="versions"
    )
    driver = start(job, cluster)
    _, messages = driver.communicate(timeout=120)
    assert driver.returncode == 6
    assert "torch" in messages
    assert "Traceback" not in messages


def test_too_many_failed_rows_end_the_run_as_on_one_machine(
    make_job: MakeJob, cluster: TwoNodes
) -> None:
    """And not with 75, with which a scheduler would run it again and again."""
    job = make_job(
        [{"q": "a long prompt"}] * 400,
        prompt={"max_input_tokens": 1, "on_overflow": "error"},
        batching={"part_rows": 100},
    )
    driver = start(job, cluster)
    printed, messages = driver.communicate(timeout=240)
    assert driver.returncode == 3, messages
    assert "failed" in json.loads(printed.splitlines()[-1])["why_stopped"]


def test_workers_query_the_models_of_the_evaluation_and_one_is_killed_in_it(
    make_job: MakeJob, cluster: TwoNodes
) -> None:
    """The command queries nothing: all results are in the cache when it publishes."""
    judge = {"name": "good", "model": {"engine": "echo"}}
    metric = {"type": "loglikelihood", "column": "q"}
    rows, evaluate = ROWS * 12, {"metrics": [metric], "judges": [judge]}
    job = make_job(rows, batching={"part_rows": PART_ROWS}, evaluate=evaluate)
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    cache = folder.private / "likelihoods"
    wait_until(lambda: cache.is_dir() and len(list(cache.iterdir())) >= 4, "nothing is queried")
    kill_a_process(folder)
    assert len(list(cache.iterdir())) < 2 * len(rows) / PART_ROWS
    _, messages = driver.communicate(timeout=240)
    assert driver.returncode == 0, messages
    assert "a worker is gone" in messages
    logs = "".join(path.read_text() for path in (folder.private / "logs").iterdir())
    for what in ("scoring texts with the model", "judge good: querying"):
        assert what in logs
        assert what not in messages
    check_rows(job)
    scores = pl.read_parquet(job.parent / "out" / "scores.parquet")
    assert scores.equals(pl.read_parquet(job.parent / "whole" / "scores.parquet"))


def test_a_cluster_of_this_machine_alone(make_job: MakeJob) -> None:
    job = make_job(ROWS, batching={"part_rows": PART_ROWS})
    found = finish(start(job, "local"))
    assert (found["outcome"], found["rows"]["ok"]) == ("done", len(ROWS))
    check_rows(job)


def test_parts_in_a_bucket_need_no_shared_folder(
    make_job: MakeJob, object_store: FaultyStore
) -> None:
    output = {"path": "out", "upload": object_store.address("pub"), "upload_parts": True}
    job = make_job(ROWS, output=output, batching={"part_rows": PART_ROWS})
    found = finish(start(job, "local"))
    assert (found["outcome"], found["rows"]["ok"]) == ("done", len(ROWS))
    assert sum(one["parts"] for one in found["engine"]["machines"]) == len(ROWS) / PART_ROWS
    assert [key for key in object_store.listing() if key.startswith("pub/.batchgen/")] == []
    assert json.loads(object_store.get("pub/manifest.json"))["rows"] == len(ROWS)


def test_a_run_that_lost_the_head_node_goes_on_elsewhere(
    job: Path, gate: Gate, cluster: TwoNodes
) -> None:
    """Ray ends the driver and all workers; what they sealed stays. The last test: the cluster is lost."""
    folder = RunFolder(job.parent / "out")
    driver = start_and_seal_a_part(job, gate, cluster)
    cluster.lose_head()
    driver.communicate(timeout=120)
    assert driver.returncode != 0
    wait_until_none_lives(folder)
    sealed = sealed_parts(folder)
    assert sealed < len(ROWS) / PART_ROWS
    gate.let_pass()
    result = alone(job)
    assert result.outcome == "done"
    assert result.resumed_rows >= sealed * PART_ROWS > 0
    check_rows(job)
