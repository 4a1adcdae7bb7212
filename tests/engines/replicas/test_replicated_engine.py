"""Replicas: every request is answered once, errors name the device, and no process is left."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchgen.engines.echo import EchoEngine
from batchgen.engines.replicas.replicated_engine import ReplicatedEngine
from batchgen.errors import BatchgenError, DeathError, ModelError
from batchgen.records import Completion, Continuation, Request, ResolvedDecoding
from tests.engines.replicas.fake_engines import (
    BUG,
    DEATH,
    REFUSAL,
    SECRET,
    collecting,
    process,
    refusing,
    replicas,
    touchy,
)
from tests.plain_decoder import PlainDecoder

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def three() -> Iterator[ReplicatedEngine]:
    with closing(replicas(touchy, touchy, touchy)) as opened:
        yield opened


@pytest.fixture
def two() -> Iterator[ReplicatedEngine]:
    with closing(replicas(touchy, touchy)) as opened:
        yield opened


def make_requests(count: int, *, last: int = 5) -> list[Request]:
    """Rows of which the last one ends with a certain token."""
    rows = [[index + 100, 5] for index in range(count)]
    rows[-1:] = [[count + 99, last]] if count else []
    return [Request(i, 0, ids, ResolvedDecoding(), seed=i) for i, ids in enumerate(rows)]


def processes(answers: Sequence[Completion]) -> set[int]:
    return {int(one.text) for one in answers}


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(calls=st.lists(st.tuples(st.integers(0, 40), st.none() | st.integers(0, 40)), max_size=4))
def test_every_request_is_answered_once_in_any_number_of_calls(
    three: ReplicatedEngine, calls: list[tuple[int, int | None]]
) -> None:
    """A call that was closed early has no effect on the next one."""
    for rows, wanted in calls:
        requests = make_requests(rows)
        running = three.generate(iter(requests))
        found = list(islice(running, wanted))
        del running  # this closes it, as leaving a loop does
        expected = {one.index: tuple(one.token_ids) for one in requests}
        answers = {one.index: tuple(one.token_ids) for one in found}
        assert len(answers) == len(found), "a row was answered twice"
        assert answers.items() <= expected.items()
        assert len(found) == (rows if wanted is None else min(rows, wanted))


def test_all_replicas_work(two: ReplicatedEngine) -> None:
    found = list(two.generate(make_requests(100)))
    assert len(processes(found)) == 2
    assert os.getpid() not in processes(found)


def test_requests_are_pulled_as_capacity_allows(two: ReplicatedEngine) -> None:
    pulled: list[int] = []

    def stream() -> Iterator[Request]:
        for request in make_requests(60):
            pulled.append(request.index)
            yield request

    for answered, _ in enumerate(two.generate(stream()), start=1):
        # One window per replica without an answer yet, and the answers in transit.
        assert len(pulled) <= answered + 2 * 4 + 2 * 4


def test_likelihoods_are_those_of_one_engine() -> None:
    given = [Continuation(n, [5, 6, n], [5, n % 3]) for n in range(30)]
    with closing(replicas(touchy, touchy)) as opened:
        found = sorted(opened.likelihoods(given), key=lambda one: one.index)
    assert found == list(EchoEngine(PlainDecoder(process)).likelihoods(given))


def test_facts_describe_all_replicas_and_each(two: ReplicatedEngine) -> None:
    list(two.generate(make_requests(100)))
    assert requests_answered(two) == 100
    facts = two.facts()
    assert (facts["workers"], facts["workers_reason"]) == (2, "for a test")


@pytest.mark.parametrize("row", [0, 50, 99])
def test_a_killed_replica_ends_the_call(two: ReplicatedEngine, row: int) -> None:
    pids = processes(list(two.generate(make_requests(100))))
    deadly = [
        *make_requests(100)[:row],
        *make_requests(row + 1, last=DEATH)[row:],
        *make_requests(100)[row + 1 :],
    ]
    with pytest.raises(DeathError, match=r"worker process \d+ on place \d has died"):
        list(two.generate(deadly))
    two.close()
    assert not any(map(alive, pids))


def test_a_replica_that_is_killed_between_calls_is_an_error_of_the_next(
    two: ReplicatedEngine,
) -> None:
    victim, _ = processes(list(two.generate(make_requests(100))))
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(DeathError, match=f"process {victim}"):
        list(two.generate(make_requests(100)))


def test_an_error_of_an_engine_names_its_device(two: ReplicatedEngine) -> None:
    with pytest.raises(ModelError, match=r"^on place \d: no such token\n  another model$"):
        list(two.generate(make_requests(30, last=REFUSAL)))


def test_a_bug_is_reported_without_the_text_of_a_row(two: ReplicatedEngine) -> None:
    with pytest.raises(BatchgenError) as caught:
        list(two.generate(make_requests(30, last=BUG)))
    assert caught.value.exit_code == 1
    assert "ZeroDivisionError" in str(caught.value)
    assert "fake_engines.py" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_engine_that_cannot_be_opened_ends_the_others() -> None:
    before = children()
    with pytest.raises(ModelError, match="on place 1: no weights"):
        replicas(touchy, refusing)
    assert children() == before


def test_a_stop_request_ends_only_the_current_call_within_a_window() -> None:
    stop: list[bool] = []
    with closing(replicas(touchy, touchy, window=50, should_stop=lambda: bool(stop))) as opened:
        found = []
        for one in opened.generate(make_requests(10_000)):
            found.append(one)
            stop[:] = [True] if len(found) >= 20 else []
        assert 20 <= len(found) <= 200
        stop.clear()
        assert len(list(opened.generate(make_requests(30)))) == 30


def test_a_call_that_is_closed_after_all_is_answered_has_no_effect_on_the_next() -> None:
    with closing(replicas(collecting)) as opened:
        running = opened.generate(make_requests(20))
        next(running)
        time.sleep(0.6)  # All requests are answered; no completion has been received.
        del running
        assert len(list(opened.generate(make_requests(20)))) == 20
        assert requests_answered(opened) == 40


def test_an_error_of_the_requests_has_no_effect_on_the_next_call(two: ReplicatedEngine) -> None:
    def broken() -> Iterator[Request]:
        yield from make_requests(30)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(two.generate(broken()))
    assert sorted(one.index for one in two.generate(make_requests(20))) == list(range(20))


def test_rows_in_flight_are_discarded_when_a_replica_is_stopped_while_it_pulls() -> None:
    stop: list[bool] = []

    def stream() -> Iterator[Request]:
        for request in make_requests(1000):
            stop[:] = [request.index == 500]
            yield request
            if stop[0]:
                return

    with closing(replicas(collecting, window=501, should_stop=lambda: any(stop))) as opened:
        assert list(opened.generate(stream())) == []
        assert requests_answered(opened) == 0


def test_an_engine_that_checks_should_stop_stops_at_its_next_step() -> None:
    with closing(replicas(collecting, window=500)) as opened:
        running = opened.generate(make_requests(500))
        next(running)
        del running
        assert 1 <= requests_answered(opened) < 50


def requests_answered(opened: ReplicatedEngine) -> int:
    each = opened.facts()["each"]
    assert isinstance(each, list)
    return sum(one["requests"] for one in each)


def test_signals_to_the_process_group_do_not_stop_replicas(two: ReplicatedEngine) -> None:
    pids = processes(list(two.generate(make_requests(100))))
    for pid in pids:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    assert processes(list(two.generate(make_requests(100)))) == pids


PARENT = """
import fcntl, sys, time
from functools import partial
sys.path.insert(0, {root!r})
from tests.plain_decoder import PlainDecoder
from tests.engines.replicas.fake_engines import replicas, touchy
from tests.engines.replicas.test_replicated_engine import make_requests, processes
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
two = replicas(touchy, touchy)
print(*processes(list(two.generate(make_requests(100)))), flush=True)
for _ in two.generate(make_requests(100_000)):
    pass
"""


def test_replicas_inherit_no_files_and_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(root=str(ROOT)), str(lock)],
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        for pid in pids:
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 4, "its pipe, and 0 to 2"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    with lock.open("w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for _ in range(200):
        if not any(map(alive, pids)):
            return
        time.sleep(0.05)
    pytest.fail("replicas outlive their parent")


def test_closing_twice_is_allowed(two: ReplicatedEngine) -> None:
    pids = processes(list(two.generate(make_requests(100))))
    two.close()
    two.close()
    assert not any(map(alive, pids))


def children() -> set[str]:
    """Child processes of this one, including those not reaped yet."""
    files = Path("/proc/self/task").glob("*/children")
    return {pid for file in files for pid in file.read_text().split()}


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"
