"""The engine of a library in a process of its own: what it prints stays there, and what it starts ends with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from batchgen.engines.replicas.replica_process import captured_output
from batchgen.engines.replicas.replicated_engine import ReplicatedEngine
from batchgen.errors import DeathError, ModelError
from tests.engines.replicas.fake_engines import (
    DEATH,
    HANG,
    REFUSAL,
    SECRET,
    library_engine,
)
from tests.engines.replicas.test_replicated_engine import ROOT, alive, make_requests


@pytest.fixture
def engine() -> Iterator[ReplicatedEngine]:
    with closing(library_engine()) as opened:
        yield opened


def test_output_is_captured_and_facts_are_those_of_the_engine(
    engine: ReplicatedEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(list(engine.generate(make_requests(20)))) == 20
    facts: Any = engine.facts()
    assert facts.keys() == {"child", "pid", "printed"}
    assert facts["printed"] == f"{SECRET} on stdout\n"
    assert capfd.readouterr() == ("", "")
    assert SECRET not in captured_output()


def test_an_error_names_no_device(engine: ReplicatedEngine) -> None:
    pid = pids(engine)
    with pytest.raises(ModelError, match=r"^no such token\n  another model$"):
        list(engine.generate(make_requests(8, last=REFUSAL)))
    engine.close()
    assert all_end(pid)


def test_signals_do_not_stop_the_replica(engine: ReplicatedEngine) -> None:
    replica, _ = pids(engine)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(replica, number)
    assert {int(one.text) for one in engine.generate(make_requests(20))} == {replica}


def test_processes_end_when_the_engine_is_closed(engine: ReplicatedEngine) -> None:
    started = pids(engine)
    begin = time.monotonic()
    engine.close()
    assert not any(map(alive, started))
    assert time.monotonic() - begin < 9, "it is not killed: it ends what its engine started"


def test_processes_end_when_the_replica_is_killed(engine: ReplicatedEngine) -> None:
    replica, child = pids(engine)
    with pytest.raises(DeathError, match=rf"^the process {replica} of Fake has died, killed by"):
        list(engine.generate(make_requests(8, last=DEATH)))
    assert alive(child), "only its parent knows that it must end"
    engine.close()
    assert all_end([child])


PARENT = """
import sys
sys.path.insert(0, {root!r})
from tests.engines.replicas.fake_engines import HANG, library_engine
from tests.engines.replicas.test_library_process import pids
from tests.engines.replicas.test_replicated_engine import make_requests
engine = library_engine()
print(*pids(engine), flush=True)
for _ in engine.generate(make_requests(int(sys.argv[1]), last=int(sys.argv[2]))):
    print("answered", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "last"),
    [
        pytest.param(100_000, 5, id="answers"),
        pytest.param(2, HANG, id="hangs", marks=pytest.mark.soak),
    ],
)
def test_processes_end_when_the_parent_is_killed(rows: int, last: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(root=str(ROOT)), str(rows), str(last)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        started = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(started) == 2
        assert parent.stdout.readline() == "answered\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert all_end(started)


def pids(engine: ReplicatedEngine) -> list[int]:
    facts: Any = engine.facts()
    return [facts["pid"], facts["child"]]


def all_end(started: list[int]) -> bool:
    for _ in range(600):
        if not any(map(alive, started)):
            return True
        time.sleep(0.05)
    return False
