"""Shards that are killed, or stand still and wake up: every part is sealed once, with the rows of a single process."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from batchgen.errors import LockedError
from batchgen.inspection.verify import verify
from batchgen.jobfile.load import load_job
from batchgen.run.result import RunResult
from batchgen.run.run import run
from batchgen.run.shards.merge_shards import NoExecutor
from batchgen.run.shards.shard_run import run_shard
from batchgen.state.run_folder import RunFolder
from batchgen.state.shards.claims import FolderClaims
from batchgen.state.shards.members import members
from batchgen.state.shards.shard import Shard
from batchgen.storage.failpoints import POINTS, SHARD_POINTS, VARIABLE
from tests.conftest import ROOT
from tests.soak.harness import Spawner

OF_THE_RUN = ("run_id", "created_at")
EXPIRY = 3.0
_BEGINS = [p for p in POINTS if p.split(".")[0] in ("job", "run")]
_MAKES_PARTS = [p for p in POINTS if p.split(".")[0] in ("journal", "part", "record")]
IN_A_SHARD = (*SHARD_POINTS[:3], *_BEGINS, *SHARD_POINTS[3:], *_MAKES_PARTS)
"""In the order of a shard's first start."""
QUICK = ("run.before_rename", "claim.before_link", "claim.after_link", "part.after_link")

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def job(make_job: Callable[..., Path]) -> Path:
    return make_job(
        [{"q": f"question {n} " + "x" * (n % 9)} for n in range(60)], batching={"part_rows": 5}
    )


@pytest.fixture
def start(job: Path) -> Iterator[Start]:
    """Starts slow workers; those that are left are killed."""
    started: list[subprocess.Popen[bytes]] = []

    def worker(seconds: float, shard: str = "any") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.run.shards.slow_worker"]
        arguments = [str(job), shard, str(seconds), str(EXPIRY)]
        started.append(subprocess.Popen([*command, *arguments], cwd=ROOT))
        return started[-1]

    yield worker
    for process in started:
        process.kill()
        process.wait()


def folder_of(job: Path) -> RunFolder:
    return RunFolder(job.parent / "out")


def merge(job: Path) -> RunResult:
    return run(load_job(job), executor=NoExecutor(folder_of(job)))


def check(job: Path) -> None:
    """Publish, and compare with a single process."""
    done = merge(job)
    assert done.outcome in ("done", "already complete")
    whole = run(load_job(job, overrides=["output.path=whole"]))
    assert done.frame().drop(OF_THE_RUN).equals(whole.frame().drop(OF_THE_RUN))
    assert verify(done.folder).issues == []


def wait_until(happened: Callable[[], bool], seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def claims(job: Path) -> dict[int, int]:
    """The number of the newest claim of each claimed part."""
    store = FolderClaims(folder_of(job))
    found = {part: store.newest(part) for part in range(12)}
    return {part: newest[0] for part, newest in found.items() if newest is not None}


@pytest.mark.slow
def test_parts_of_a_killed_worker_are_made_by_another_at_once(job: Path, start: Start) -> None:
    killed = start(5.0)
    wait_until(lambda: len(claims(job)) > 0)
    held = set(claims(job))
    killed.kill()
    killed.wait()
    made = run_shard(job, Shard(), expiry=600.0)  # it does not wait for the expiry
    assert (made.outcome, made.counts.rows) == ("sealed", 60)
    assert held <= set(claims(job))
    check(job)


@pytest.mark.slow
def test_a_worker_that_stands_still_seals_no_part_a_second_time(job: Path, start: Start) -> None:
    still = start(0.3)
    wait_until(lambda: len(claims(job)) > 0)
    still.send_signal(signal.SIGSTOP)
    held = set(claims(job))
    made = run_shard(job, Shard(), expiry=EXPIRY)
    assert (made.outcome, made.counts.rows) == ("sealed", 60)
    folder = folder_of(job)
    taken_over = {part for part, claim in claims(job).items() if claim > 0}
    assert taken_over
    assert taken_over <= held
    sealed = {path: (path.read_bytes(), path.stat().st_ino) for path in folder.parts.iterdir()}
    with pytest.raises(LockedError, match="shards are running"):
        merge(job)  # it could still seal a part
    still.send_signal(signal.SIGCONT)
    assert still.wait(120) == 0
    assert sealed == {
        path: (path.read_bytes(), path.stat().st_ino) for path in folder.parts.iterdir()
    }
    check(job)


@pytest.mark.soak
def test_random_kills_of_shards_lose_nothing(job: Path, start: Start) -> None:
    chance = random.Random(11)
    running = [start(0.02) for _ in range(3)]
    kills = 0
    until = time.monotonic() + 240
    while any(process.poll() is None for process in running) and time.monotonic() < until:
        time.sleep(chance.uniform(0.3, 1.5))
        at = chance.randrange(3)
        if running[at].poll() is None and kills < 5:
            running[at].send_signal(signal.SIGKILL)
            running[at].wait()
            kills += 1
        if running[at].poll() not in (None, 0):
            running[at] = start(0.02)
    assert kills > 0
    assert [process.wait(120) for process in running] == [0, 0, 0]
    made = Counter({one.name: int(one.content["parts"]) for one in members(folder_of(job))})
    assert 0 < made.total() <= 12
    check(job)


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.mark.parametrize(
    "points", [QUICK, pytest.param(IN_A_SHARD, marks=pytest.mark.soak)], ids=["some", "all"]
)
def test_a_shard_that_is_killed_at_one_named_point_after_another_loses_nothing(
    make_job: Callable[..., Path], spawner: Spawner, points: Sequence[str]
) -> None:
    """Each start is killed at the next point of a shard's way, and the start after it resumes."""
    rows = [{"q": f"question {n} " + "x" * (n % 9)} for n in range(2 * len(points))]
    job = make_job(rows, batching={"part_rows": 2})
    for point in points:
        # Answers are committed where a part stays unfinished: a worker that claims parts begins none once its time is over.
        is_stopped = point.endswith("_commit")
        shard = ("run", str(job), "--shard", "0/1" if is_stopped else "any", "--quiet")
        stopped = ("--set", "run.max_runtime=0s") if is_stopped else ()
        ended = spawner.run([*shard, *stopped], env={VARIABLE: point})
        assert ended.killed, f"{point}: {ended.output}"
    ended = spawner.run(["run", str(job), "--shard", "any", "--quiet"])
    assert ended.code == 0, ended.output
    ended = spawner.run(["run", str(job), "--merge", "--quiet"], env={VARIABLE: "manifest.half"})
    assert ended.killed, ended.output
    check(job)


@pytest.mark.slow
def test_of_two_merges_at_once_one_publishes(job: Path) -> None:
    run_shard(job, Shard(0, 1))
    command = [sys.executable, "-m", "batchgen", "run", str(job), "--merge", "--json", "--quiet"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0].decode() for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 75])
    assert sum('"outcome": "done"' in text for text in outputs) == 1
    assert run(load_job(job)).outcome == "already complete"
