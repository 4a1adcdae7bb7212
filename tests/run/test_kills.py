"""Killed at each named point and at random, with a reader polling: the answers are those of an uninterrupted run."""

import random
from collections.abc import Iterator
from itertools import cycle

import pytest

from batchgen.storage.failpoints import POINTS, VARIABLE
from tests.soak.flips import flips
from tests.soak.harness import Spawner, Work, random_kills, reading

ONCE = {
    *(point for point in POINTS if point.split(".")[0] in ("run", "job", "manifest", "release")),
    *("journal.before_commit", "journal.after_commit", "clean.before"),
}
"""Points that a small and fast run passes once."""
FULL = ("ENOSPC", "EDQUOT", "EFBIG", "EIO")
REFUSED = [point for point in POINTS if "before" in point or "half" in point]


@pytest.fixture(scope="module")
def spawner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spawner]:
    with Spawner(tmp_path_factory.mktemp("log") / "log") as made:
        yield made


@pytest.fixture(scope="module")
def work(spawner: Spawner, tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("file"), spawner)


@pytest.fixture(scope="module")
def in_parts(spawner: Spawner, tmp_path_factory: pytest.TempPathFactory) -> Work:
    return Work(tmp_path_factory.mktemp("parts"), spawner, rows=200, layout="parts")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_named_point_loses_only_rows_in_flight(
    work: Work, point: str, count: int
) -> None:
    if count > 1 and point in ONCE:
        pytest.skip("a run passes it once")
    work.clear()
    # Unless it is stopped, the run ends before the first commit of its journal.
    stopped = ("--set", "run.max_runtime=0s") if point.endswith("_commit") else ()
    with reading(work):
        ended = work.run(*stopped, fail_at=f"{point}:{count}")
        assert ended.killed, ended.output
        work.finish()


@pytest.mark.parametrize("point", [p for p in POINTS if p.startswith(("publish", "manifest"))])
def test_parts_are_published_as_safely_as_one_file(in_parts: Work, point: str) -> None:
    in_parts.clear()
    with reading(in_parts):
        assert in_parts.run(fail_at=point).killed
        in_parts.finish()


def test_twenty_random_kills_lose_nothing(work: Work) -> None:
    found = random_kills(work, 20, random.Random(4), longest=0.6)
    assert found.kills == 20


@pytest.mark.soak
@pytest.mark.parametrize(("point", "error"), list(zip(REFUSED, cycle(FULL), strict=False)))
def test_a_write_error_at_any_point_ends_with_5_and_the_run_can_be_resumed(
    work: Work, point: str, error: str
) -> None:
    work.clear()
    with reading(work):
        stopped = ("--set", "run.max_runtime=0s") if point.endswith("_commit") else ()
        ended = work.run(*stopped, fail_at=f"{point}={error}")
        assert ended.code == 5, ended.output
        assert "repeat the command to resume" in ended.output
        assert "Traceback" not in ended.output
        work.finish()


@pytest.mark.soak
def test_flipped_bits_are_detected_or_harmless(work: Work) -> None:
    assert flips(work, 20, random.Random(4)).total() == 20


def test_an_unknown_fail_point_is_rejected(work: Work) -> None:
    work.clear()
    ended = work.run(fail_at="part.gone")
    assert ended.code == 2
    assert f"{VARIABLE}=part.gone" in ended.output
