"""What the tests on a real Ray cluster share: the cluster, runs on it, and a server that holds answers back until a fault is done."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.run import run
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.members import members
from tests.conftest import ROOT
from tests.engines.openai.fake_server import Seen, Sent, say, serving

ROWS = [{"q": f"row {n}"} for n in range(80)]
PART_ROWS = 10
WORKERS = 2
"""One for each node."""
OF_THE_RUN = ("run_id", "created_at")
SETTINGS = {"RAY_worker_niceness": "0", "RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
"""Ray lowers the priority of workers, to which other tests would then leave no time, and waits for a lost head node for 60 s."""
_MARK = "BATCHGEN_TEST_CLUSTER"
"""Variable in the environment of a cluster's processes."""
_SECONDS_TO_WAIT = 120.0


class TwoNodes:
    """A cluster; see two_nodes.py."""

    def __init__(self) -> None:
        self._mark = f"{_MARK}={uuid4().hex}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.run.ray_cluster.two_nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | SETTINGS | {_MARK: self._mark.partition("=")[2]},
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

    def actors(self) -> list[int]:
        """Processes of Ray's workers that make parts; those of another cluster of this machine are left out."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if (
                    entry.name.isdigit()
                    and (entry / "cmdline").read_bytes().startswith(b"ray::ShardWorker")
                    and self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                ):
                    found.append(int(entry.name))
        return found

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


@dataclass
class Gate:
    """What a server answers with: rows pass one after another as long as the gate has let fewer pass than it is to."""

    url: str = ""
    passed: int = 0
    limit: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, seen: Seen) -> Sent:
        with self._changed:
            self._changed.wait_for(lambda: self.passed < self.limit, _SECONDS_TO_WAIT)
            self.passed += 1
        return say(seen)

    def let_pass(self, rows: int = 1_000_000) -> None:
        """Let so many more rows pass."""
        with self._changed:
            self.limit = self.passed + rows
            self._changed.notify_all()

    def let_a_part_pass(self) -> None:
        """Let rows pass until one more part is whole, in whatever way workers share the rows."""
        self.let_pass(PART_ROWS + WORKERS * PART_ROWS)

    @property
    def model(self) -> dict[str, object]:
        return {"engine": "openai", "base_url": self.url}


@contextmanager
def gated_server() -> Iterator[Gate]:
    """A server behind a gate, which is closed."""
    gate = Gate()
    with serving(gate) as server:
        gate.url = server.url
        yield gate
        gate.let_pass()


def start(job: Path, cluster: TwoNodes | str, *options: str) -> "subprocess.Popen[str]":
    """Start `batchgen run --ray`."""
    address = cluster if isinstance(cluster, str) else cluster.address
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--ray", address]
    return subprocess.Popen(
        [*command, "--ray-workers", str(WORKERS), "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=job.parent,
        env=os.environ | SETTINGS,
    )


def finish(driver: "subprocess.Popen[str]") -> dict[str, Any]:
    """What a run that ends well prints with --json."""
    printed, messages = driver.communicate(timeout=240)
    assert driver.returncode == 0, messages
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def alone(job: Path, *overrides: str) -> Any:
    """The result of a single process, which sends many requests at once."""
    return run(load_job(job, overrides=["batching.max_rows=64", *overrides]))


def check_rows(job: Path) -> None:
    """The rows of the run are those of a single process, and nothing is damaged."""
    whole = alone(job, "output.path=whole").frame()
    found = pl.read_parquet(job.parent / "out" / "responses.parquet")
    assert found.drop(OF_THE_RUN).equals(whole.drop(OF_THE_RUN))
    assert verify(RunFolder(job.parent / "out")).issues == []


def wait_until(happened: Callable[[], bool], why_not: str) -> None:
    until = time.monotonic() + _SECONDS_TO_WAIT
    while not happened():
        assert time.monotonic() < until, why_not
        time.sleep(0.05)


def sealed_parts(folder: RunFolder) -> int:
    return len(list(folder.parts.glob("*.bgpart")))


def wait_for_parts(folder: RunFolder, count: int) -> None:
    wait_until(lambda: sealed_parts(folder) >= count, "no parts are made")


def wait_until_none_lives(folder: RunFolder) -> None:
    wait_until(
        lambda: not any(one.is_alive for one in members(folder)), "workers outlive their driver"
    )


def kill_a_process(folder: RunFolder) -> None:
    """Kill the process in which a worker makes parts."""
    os.kill(next(one.content["pid"] for one in members(folder) if one.is_alive), signal.SIGKILL)
