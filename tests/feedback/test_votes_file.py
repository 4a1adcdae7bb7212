"""Votes are on disk when they are accepted, from any number of writers; damage is found, and a torn end is not damage."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchgen.errors import ResourceError, StateError
from batchgen.feedback.vote import Vote
from batchgen.feedback.votes_file import (
    append_vote,
    append_votes,
    merge_votes,
    read_votes,
    read_votes_file,
    votes_path,
)
from batchgen.inspection.verify import verify
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import VARIABLE, VOTE_POINTS, arm
from tests.feedback.conftest import MakeRun
from tests.feedback.test_vote import vote


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def rating(number: int, reviewer: str = "ann", value: int = 4) -> Vote:
    return vote("rating", number, reviewer=reviewer, id=str(number), value=value)


def test_a_run_without_votes_has_none(run: RunFolder) -> None:
    assert read_votes(run).votes == []


def test_each_reviewer_has_a_file(run: RunFolder) -> None:
    votes = [rating(1), rating(2, "王医生"), rating(3)]
    for one in votes:
        append_vote(run, one, mode=0o640)
    assert sorted(p.name for p in (run.path / "feedback").iterdir()) == [
        "ann.jsonl",
        "王医生.jsonl",
    ]
    assert read_votes(run).votes == [votes[0], votes[2], votes[1]]
    assert stat.S_IMODE(votes_path(run, "ann").stat().st_mode) == 0o640


def _write_many(folder: Path, first: int, count: int) -> None:
    for number in range(first, first + count):
        append_vote(RunFolder(folder), rating(number))


def test_several_processes_lose_nothing(run: RunFolder) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write_many, args=(run.path, 100 * writer, 40))
        for writer in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    expected = {100 * writer + number for writer in range(4) for number in range(40)}
    assert {int(one.id) for one in read_votes(run).votes} == expected


_APPEND = """
import sys
from pathlib import Path
from batchgen.feedback.votes_file import append_vote
from batchgen.feedback.vote import parse_vote
from batchgen.state.run_folder import RunFolder
from batchgen.storage.failpoints import arm
arm()
append_vote(RunFolder(Path(sys.argv[1])), parse_vote(sys.argv[2]))
"""


@pytest.mark.parametrize("point", VOTE_POINTS)
def test_a_kill_in_the_middle_of_a_vote_leaves_the_others(run: RunFolder, point: str) -> None:
    append_vote(run, rating(1))
    killed = subprocess.run(
        [sys.executable, "-c", _APPEND, str(run.path), rating(2).to_line()],
        env={**os.environ, VARIABLE: point},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    saved = read_votes(run)
    assert saved.votes[0] == rating(1)
    assert len(saved.notes) == (1 if point == "vote.half" else 0)
    append_vote(run, rating(3))
    again = read_votes(run)
    assert (again.votes[0], again.votes[-1], again.notes) == (rating(1), rating(3), [])


@pytest.mark.parametrize("point", VOTE_POINTS)
def test_a_full_disk_is_an_error_and_leaves_no_half_vote(
    run: RunFolder, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_vote(run, rating(1))
    before = votes_path(run, "ann").read_bytes()
    monkeypatch.setenv(VARIABLE, f"{point}=ENOSPC")
    arm()
    try:
        with pytest.raises(ResourceError, match="No space left"):
            append_vote(run, rating(2))
    finally:
        monkeypatch.undo()
        arm()
    assert votes_path(run, "ann").read_bytes() == before


def test_a_half_written_last_line_is_left_out_with_a_note(run: RunFolder) -> None:
    append_votes(run, [rating(1), rating(2)])
    path = votes_path(run, "ann")
    path.write_bytes(path.read_bytes()[:-20])
    saved = read_votes(run)
    assert saved.votes == [rating(1)]
    assert saved.notes == [
        f"{path}:2: the last line is not complete and was left out: its vote has not been accepted"
    ]


def test_a_last_line_without_an_end_counts(run: RunFolder) -> None:
    append_vote(run, rating(1))
    path = votes_path(run, "ann")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_votes(run).votes == [rating(1)]
    append_vote(run, rating(2))
    assert read_votes(run).votes == [rating(1), rating(2)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"vote_id": "1"', "Invalid JSON"),
        (b"\x00" * 40, "Invalid JSON"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[1, 2]", "Input should be an object"),
        (b"{}", "vote_id: Field required"),
    ],
)
def test_other_damage_is_an_error_with_file_and_line(
    run: RunFolder, line: bytes, problem: str
) -> None:
    append_votes(run, [rating(1), rating(2)])
    path = votes_path(run, "ann")
    first, second = path.read_bytes().splitlines()
    path.write_bytes(first + b"\n" + line + b"\n" + second + b"\n")
    with pytest.raises(StateError, match="not a vote") as caught:
        read_votes(run)
    assert caught.value.message.startswith(f"{path}:2: ")
    assert problem in caught.value.message


def test_a_whole_last_line_that_is_not_a_vote_is_an_error_not_a_torn_line(run: RunFolder) -> None:
    path = votes_path(run, "ann")
    path.parent.mkdir()
    path.write_bytes(b'{"vote_id": "1"}')
    with pytest.raises(StateError, match=r"ann\.jsonl:1: not a vote: "):
        read_votes_file(path)


def test_the_same_vote_in_two_files_counts_once_and_two_forms_of_it_are_an_error(
    run: RunFolder,
) -> None:
    append_votes(run, [rating(1), rating(2)])
    copy = votes_path(run, "ann copy")
    copy.write_bytes(votes_path(run, "ann").read_bytes())
    saved = read_votes(run)
    assert (len(saved.votes), saved.repeated) == (2, 2)
    copy.write_text(rating(1, value=1).to_line())
    with pytest.raises(StateError, match=r"differs between .*ann copy\.jsonl"):
        read_votes(run)


def test_merging_counts_repeated_votes(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_text(rating(1).to_line() * 3)
    merged = merge_votes([(path, read_votes_file(path))])
    assert (len(merged.votes), merged.repeated) == (1, 2)


def test_a_link_is_not_followed(run: RunFolder, tmp_path: Path) -> None:
    votes_path(run, "ann").parent.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    votes_path(run, "ann").symlink_to(precious)
    with pytest.raises(StateError, match="is a link; expected a file"):
        append_vote(run, rating(1))
    assert precious.read_text() == "keep me"


def test_verify_names_the_line_of_a_damaged_vote(make_run: MakeRun) -> None:
    run = make_run().folder
    append_votes(run, [rating(1), rating(2)])
    path = votes_path(run, "ann")
    report = verify(run)
    assert (report.issues, report.checked[-1]) == ([], "feedback/ann.jsonl")
    path.write_text(path.read_text().replace('"value":4', '"value":9', 1))
    (issue,) = verify(run).issues
    assert issue.file == "feedback/ann.jsonl"
    assert issue.problem.startswith("line 1: not a vote: the value of a rating")
