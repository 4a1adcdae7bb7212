"""Votes on disk before they count; sides, overlap, undo, and what a new session finds."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from batchgen.feedback.vote import standing_votes
from batchgen.review.server import review_session
from batchgen.review.server.review_session import ReviewSession
from batchgen.review.server.vote_request import RejectedError, VoteRequest
from tests.review.conftest import prepared, saved

MakeRun = Callable[..., Path]


def request(n: int, kind: str, *, reviewer: str = "anna", **fields: Any) -> VoteRequest:
    values = {"reviewer": reviewer, "n": n, "vote_id": uuid.uuid4().hex, "kind": kind}
    return VoteRequest.model_validate(values | fields)


def test_a_vote_is_on_disk_and_a_repeated_one_is_saved_once(answered: MakeRun) -> None:
    folder = answered()
    session = ReviewSession(prepared(folder))
    vote = request(3, "rating", value=4, dwell_ms=900)
    for _ in range(2):
        found = session.record(vote)
        assert found == {"saved": vote.vote_id, "progress": [{"name": "anna", "done": 1}]}
    (one,) = saved(folder)
    assert (one.id, one.value, one.blind, one.dwell_ms) == ("r3", 4, True, 900)
    assert one.run_id == session.setup.run.run_id
    assert one.rubric == "general 1"
    assert ReviewSession(prepared(folder)).state("anna")["votes"] == [
        {"n": 3, "vote_id": vote.vote_id, "kind": "rating", "value": 4}
    ]


def test_several_reviewers_at_once_lose_nothing(answered: MakeRun) -> None:
    folder = answered()
    session = ReviewSession(prepared(folder))
    votes = [
        request(n, "rating", reviewer=name, value=1 + n % 5)
        for n in range(10)
        for name in ("anna", "bo", "李华")
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(session.record, votes))
    assert sorted(one.vote_id for one in saved(folder)) == sorted(one.vote_id for one in votes)
    assert session.counts() == {"anna": 10, "bo": 10, "李华": 10}
    assert {path.name for path in (folder / "feedback").iterdir()} == {
        "anna.jsonl",
        "bo.jsonl",
        "李华.jsonl",
    }


def test_undo_is_a_vote(answered: MakeRun) -> None:
    folder = answered()
    session = ReviewSession(prepared(folder))
    first, second = request(0, "rating", value=2), request(0, "rating", value=5)
    for one in (first, second, request(0, "undo", undoes=second.vote_id)):
        session.record(one)
    assert [one.value for one in standing_votes(saved(folder))] == [2]
    assert len(saved(folder)) == 3
    with pytest.raises(RejectedError, match="not a vote of this reviewer"):
        session.record(request(0, "undo", reviewer="bo", undoes=first.vote_id))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"n": 10, "kind": "skip"}, "n: expected a number below 10"),
        ({"n": 0, "kind": "rating", "value": 6}, "from 1 to 5"),
        ({"n": 0, "kind": "rating"}, "needs value"),
        ({"n": 0, "kind": "pair", "choice": "a"}, "kind: expected one of rating, pass"),
        ({"n": 0, "kind": "label", "labels": []}, "needs labels"),
        ({"n": 0, "kind": "comment", "comment": "  "}, "a comment is empty"),
    ],
)
def test_requests_that_are_not_votes(
    answered: MakeRun, fields: dict[str, Any], problem: str
) -> None:
    folder = answered()
    session = ReviewSession(prepared(folder))
    with pytest.raises(RejectedError, match=problem):
        session.record(request(**fields))
    assert saved(folder) == []


def test_a_vote_about_an_answer_that_changed_does_not_count(answered: MakeRun) -> None:
    folder = answered()
    ReviewSession(prepared(folder)).record(request(0, "rating", value=3))
    text = (folder / "feedback" / "anna.jsonl").read_text()
    sha = saved(folder)[0].response_sha
    (folder / "feedback" / "anna.jsonl").write_text(text.replace(sha, "0" * 64))
    assert ReviewSession(prepared(folder)).counts() == {}


def test_votes_by_another_rubric_are_asked_again(answered: MakeRun, tmp_path: Path) -> None:
    folder = answered()
    ReviewSession(prepared(folder)).record(request(0, "rating", value=3))
    ReviewSession(prepared(folder)).record(request(0, "comment", comment="short"))
    (tmp_path / "rubric.txt").write_text("Polite, and in two sentences.")
    session = ReviewSession(prepared(folder, rubric=tmp_path / "rubric.txt"))
    assert [one["kind"] for one in session.state("anna")["votes"]] == ["comment"]
    assert session.counts() == {"anna": 0}


def test_a_half_written_last_line_is_dropped_with_a_note(answered: MakeRun) -> None:
    folder = answered()
    ReviewSession(prepared(folder)).record(request(0, "rating", value=3))
    path = folder / "feedback" / "anna.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    session = ReviewSession(prepared(folder))
    assert len(session.notes) == 1
    assert "the last line is not complete" in session.notes[0]
    assert session.counts() == {"anna": 1}
    session.record(request(1, "rating", value=1))
    assert [one.id for one in saved(folder)] == ["r0", "r1"]
    assert ReviewSession(prepared(folder)).notes == []


def test_sides_are_random_by_reviewer_and_choices_name_runs(answered: MakeRun) -> None:
    prompts = [f"a long question with number {n}" for n in range(40)]
    base, new = answered("base", prompts), answered("new", prompts, tokens=9)
    session = ReviewSession(prepared(base, new))
    long_first = {
        name: [len(session.item(n, name)["answers"][0]["text"]) > 9 for n in range(40)]
        for name in ("anna", "bo")
    }
    assert long_first["anna"] != long_first["bo"]
    for firsts in long_first.values():
        assert 8 <= sum(firsts) <= 32
    for n, is_long_first in enumerate(long_first["anna"]):
        session.record(request(n, "pair", choice="a" if is_long_first else "b"))  # the long one
    votes = saved(base)
    assert {one.choice for one in votes} == {"a"}  # the answer of `run_id`, wherever it was shown
    assert [one.shown_first == "run" for one in votes] == long_first["anna"]
    other = session.setup.other
    assert other is not None
    assert {one.other_run_id for one in votes} == {other.run_id}
    shown = [one["choice"] == "a" for one in session.state("anna")["votes"]]
    assert shown == long_first["anna"]


def test_marks_of_a_pair_are_votes_about_the_run_of_that_answer(answered: MakeRun) -> None:
    base, new = answered("base"), answered("new", tokens=6)
    session = ReviewSession(prepared(base, new))
    shown = session.item(0, "anna")["answers"]
    assert {one["text"] for one in shown} == {"quest", "question number 0"}
    place = "a" if shown[0]["text"] == "quest" else "b"  # the answer of `new`
    flag = request(0, "flag", labels=["private"], place=place)
    session.record(flag)
    session.record(request(0, "edit", edited_text="Edited.", place="b" if place == "a" else "a"))
    (edited,), (flagged,) = saved(base), saved(new)
    assert (edited.kind, flagged.kind, flagged.labels) == ("edit", "flag", ["private"])
    assert flagged.response_sha != edited.response_sha
    found = ReviewSession(prepared(base, new)).state("anna")["votes"]
    assert [one["place"] for one in found] == [place, "b" if place == "a" else "a"]
    session.record(request(0, "undo", undoes=flag.vote_id))
    assert standing_votes(saved(new)) == []


def test_marks_of_an_earlier_review_do_not_show_whose_answer_is_which(answered: MakeRun) -> None:
    base, new = answered("base"), answered("new", tokens=6)
    ReviewSession(prepared(base)).record(request(0, "flag", labels=["wrong"]))
    assert ReviewSession(prepared(base, new)).state("anna")["votes"] == []
    pair = ReviewSession(prepared(base, new))
    pair.record(request(0, "comment", comment="both are short"))
    assert len(ReviewSession(prepared(base, new)).state("anna")["votes"]) == 1
    assert len(ReviewSession(prepared(base)).state("anna")["votes"]) == 2


def test_overlap_shares_some_answers_and_splits_the_others(answered: MakeRun) -> None:
    folder = answered()
    session = ReviewSession(prepared(folder), 0.2)
    queues = {name: list(session.state(name)["queue"]) for name in ("anna", "bo")}
    assert queues["anna"] == queues["bo"] == [4, 9]
    taken: dict[str, list[int]] = {"anna": [], "bo": []}
    for name in ("anna", "bo") * 4:
        n = session.next(name)
        assert n is not None
        taken[name].append(n)
        session.record(request(n, "rating", reviewer=name, value=3))
    assert sorted(taken["anna"] + taken["bo"]) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert session.next("anna") is None
    again = ReviewSession(prepared(folder), 0.2)
    assert again.state("anna")["queue"] == sorted([*taken["anna"], 4, 9])
    assert again.next("bo") is None


def test_what_was_rated_at_another_server_is_not_given_again(answered: MakeRun) -> None:
    setup = prepared(answered(prompts=["one", "two"]))
    one, other = ReviewSession(setup, 0.0), ReviewSession(setup, 0.0)
    assert one.next("anna") == 0
    one.record(request(0, "rating", value=3))
    assert other.next("bo") == 1


def test_an_answer_that_nobody_rated_goes_to_another_reviewer(
    answered: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ReviewSession(prepared(answered()), 0.0)
    assert (session.next("anna"), session.next("bo")) == (0, 1)
    beyond = session.next("bo")  # before a vote about the first one is saved
    assert beyond not in (0, 1)
    session.record(request(1, "skip", reviewer="bo"))
    assert session.next("carl") == 1  # skipped
    monkeypatch.setattr(review_session, "CLAIM_SECONDS", -1.0)
    assert session.next("carl") == 0  # left open for too long
