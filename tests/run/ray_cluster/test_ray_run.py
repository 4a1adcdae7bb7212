"""Runs on a real Ray cluster of two nodes on this machine; workers, nodes and drivers are killed.

The rows come from a server that sleeps, so that a kill meets a run in the middle.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import members
from batchgen.storage.entries import list_folder
from tests.conftest import ROOT, MakeJob
from tests.engines.openai.fake_server import FakeServer, Seen, Sent, say, serving, slowly
from tests.object_store import FaultyStore

pytest.importorskip("ray", reason="needs Ray")
pytestmark = pytest.mark.soak

ROWS = [{"q": f"row {n}"} for n in range(160)]
PART_ROWS = 10
WORKERS = 4
OF_THE_RUN = ("run_id", "created_at")
PRIORITY = {"RAY_worker_niceness": "0"}
"""Ray lowers that of workers, to which other tests would then leave no time."""


class TwoNodes:
    """A cluster; see two_nodes.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.run.ray_cluster.two_nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | PRIORITY,
        )
        self.address = self._line()

    def lose_raylet(self) -> None:
        """Kill the raylet of a node, and add another node."""
        self._do("lose a raylet")

    def add_node(self) -> None:
        self._do("add a node")

    def lose_head(self) -> None:
        """Kill the node that holds the cluster together."""
        self._do("lose the head")

    def _do(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def _line(self) -> str:
        """The next line that is not one of Ray's messages."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "done" or re.fullmatch(r"[\d.]+:\d+", line.strip()):
                return line.strip()
        raise AssertionError("the cluster has ended")


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    found = TwoNodes()
    yield found
    found.close()


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with serving(slowly(say, 0.05)) as found:
        yield found


@pytest.fixture
def job(make_job: MakeJob, server: FakeServer) -> Path:
    model = {"engine": "openai", "base_url": server.url}
    return make_job(ROWS, model=model, batching={"part_rows": PART_ROWS, "max_rows": 1})


def start(job: Path, cluster: TwoNodes | str, *options: str) -> "subprocess.Popen[str]":
    address = cluster if isinstance(cluster, str) else cluster.address
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--ray", address]
    return subprocess.Popen(
        [*command, "--ray-workers", str(WORKERS), "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=job.parent,
        env=os.environ | PRIORITY,
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


def kill_process(folder: RunFolder, _: TwoNodes) -> None:
    os.kill(next(one.content["pid"] for one in members(folder) if one.is_alive), signal.SIGKILL)


def kill_actor(_: RunFolder, __: TwoNodes) -> None:
    os.kill(actors()[0], signal.SIGKILL)


def kill_raylet(_: RunFolder, cluster: TwoNodes) -> None:
    cluster.lose_raylet()


def kill_node(folder: RunFolder, cluster: TwoNodes) -> None:
    """The raylet and every worker at once; another node is added, whose workers finish the run."""
    kill_raylet(folder, cluster)
    for process in actors():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


KILLS: dict[str, Callable[[RunFolder, TwoNodes], None]] = {
    "the process of a worker": kill_process,
    "a worker": kill_actor,
    "a raylet": kill_raylet,
    "a node": kill_node,
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_kill_loses_no_row_and_doubles_none(
    kill: Callable[[RunFolder, TwoNodes], None], job: Path, cluster: TwoNodes
) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    wait_for_parts(folder, 3)
    kill(folder, cluster)
    found = finish(driver)
    assert found["outcome"] == "done"
    assert sum(one["parts"] for one in found["engine"]["machines"]) <= len(ROWS) / PART_ROWS
    check_rows(job)


def test_workers_of_a_node_that_joins_get_parts_at_once(
    make_job: MakeJob, cluster: TwoNodes
) -> None:
    """Six workers are wanted, and the nodes have room for four until another one joins."""
    joined = threading.Event()

    def say_slowly(seen: Seen) -> Sent:
        joined.wait(1.0)
        return say(seen)

    with serving(say_slowly) as server:
        model = {"engine": "openai", "base_url": server.url}
        job = make_job(ROWS, model=model, batching={"part_rows": PART_ROWS, "max_rows": 1})
        folder = RunFolder(job.parent / "out")
        driver = start(job, cluster, "--ray-workers", str(WORKERS + 2))
        wait_for_owners(folder, WORKERS)
        cluster.add_node()
        wait_for_owners(folder, WORKERS + 1)
        joined.set()
        found = finish(driver)
        check_rows(job)
    assert len(found["engine"]["machines"]) > WORKERS


def wait_for_owners(folder: RunFolder, count: int) -> None:
    """Wait until so many workers have claimed parts."""
    until = time.monotonic() + 120
    while len({str(claim.readlink()) for claim in list_folder(folder.claims)}) < count:
        assert time.monotonic() < until, "they claim no part"
        time.sleep(0.05)


def test_a_killed_driver_resumes_and_its_workers_end(job: Path, cluster: TwoNodes) -> None:
    folder = RunFolder(job.parent / "out")
    driver = start(job, cluster)
    wait_for_parts(folder, 3)
    driver.kill()
    driver.communicate()
    wait_until_none_lives(folder)
    assert len(list(folder.parts.glob("*.bgpart"))) < len(ROWS) / PART_ROWS
    assert finish(start(job, cluster))["outcome"] == "done"
    check_rows(job)


def test_a_run_that_lost_the_head_node_goes_on_elsewhere(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray ends the driver and all workers; what they sealed stays."""
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # instead of 60
    is_lost = threading.Event()

    def say_slowly(seen: Seen) -> Sent:
        is_lost.wait(0.5)
        return say(seen)

    with serving(say_slowly) as server:
        model = {"engine": "openai", "base_url": server.url}
        job = make_job(ROWS, model=model, batching={"part_rows": PART_ROWS, "max_rows": 1})
        folder, lost = RunFolder(job.parent / "out"), TwoNodes()
        driver = start(job, lost)
        wait_for_parts(folder, 1)
        lost.lose_head()
        driver.communicate(timeout=120)
        assert driver.returncode != 0
        wait_until_none_lives(folder)
        lost.close()
        sealed = len(list(folder.parts.glob("*.bgpart")))
        is_lost.set()
        result = run(load_job(job))
        assert result.outcome == "done"
        assert result.resumed_rows >= sealed * PART_ROWS > 0
        check_rows(job)


def test_a_stopped_driver_stops_its_workers_and_one_machine_finishes(
    job: Path, cluster: TwoNodes
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


def test_a_second_driver_is_refused_while_workers_run(make_job: MakeJob, cluster: TwoNodes) -> None:
    is_refused = threading.Event()

    def say_slowly(seen: Seen) -> Sent:
        is_refused.wait(2.0)
        return say(seen)

    with serving(say_slowly) as server:
        model = {"engine": "openai", "base_url": server.url}
        job = make_job(ROWS, model=model, batching={"part_rows": PART_ROWS, "max_rows": 1})
        driver = start(job, cluster)
        wait_for_owners(RunFolder(job.parent / "out"), WORKERS)
        second = start(job, cluster)
        _, messages = second.communicate(timeout=120)
        is_refused.set()
        assert second.returncode == 75
        assert "shards are running" in messages
        assert finish(driver)["outcome"] == "done"


def test_a_worker_that_cannot_make_parts_ends_the_run_by_name(job: Path, cluster: TwoNodes) -> None:
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


def test_too_many_failed_rows_end_the_run_as_on_one_machine(make_job: MakeJob) -> None:
    """And not with 75, with which a scheduler would run it again and again."""
    job = make_job(
        [{"q": "a long prompt"}] * 400,
        prompt={"max_input_tokens": 1, "on_overflow": "error"},
        batching={"part_rows": 100},
    )
    driver = start(job, "local")
    printed, messages = driver.communicate(timeout=240)
    assert driver.returncode == 3, messages
    assert "failed" in json.loads(printed.splitlines()[-1])["why_stopped"]


def test_a_cluster_of_this_machine_alone(make_job: MakeJob) -> None:
    job = make_job(ROWS, batching={"part_rows": PART_ROWS})
    found = finish(start(job, "local"))
    assert (found["outcome"], found["rows"]["ok"]) == ("done", len(ROWS))
    check_rows(job)


def test_workers_query_the_models_of_the_evaluation(make_job: MakeJob, cluster: TwoNodes) -> None:
    """The command queries nothing: all results are in the cache when it publishes."""
    judge = {"name": "good", "model": {"engine": "echo"}}
    metric = {"type": "loglikelihood", "column": "q"}
    job = make_job(
        ROWS, batching={"part_rows": PART_ROWS}, evaluate={"metrics": [metric], "judges": [judge]}
    )
    driver = start(job, cluster)
    _, messages = driver.communicate(timeout=240)
    assert driver.returncode == 0, messages
    logs = "".join(path.read_text() for path in (job.parent / "out" / ".batchgen/logs").iterdir())
    for what in ("scoring texts with the model", "judge good: querying"):
        assert what in logs
        assert what not in messages
    check_rows(job)
    scores = pl.read_parquet(job.parent / "out" / "scores.parquet")
    assert scores.equals(pl.read_parquet(job.parent / "whole" / "scores.parquet"))


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
