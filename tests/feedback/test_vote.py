"""A vote has the fields of its kind and no others; what counts of many votes is decided by their order."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batchgen.feedback.vote import Vote, parse_vote, response_sha, standing_votes

SHA = hashlib.sha256(b"answer").hexdigest()
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)
PAIR = {
    "choice": "a",
    "other_run_id": "r2",
    "other_sample": 0,
    "other_response_sha": SHA,
    "shown_first": "other",
}


def fields(kind: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "vote_id": f"{number:032x}",
        "time": (NOW + timedelta(seconds=number)).isoformat(),
        "reviewer": "ann",
        "run_id": "r1",
        "id": "7",
        "sample": 0,
        "response_sha": SHA,
        "kind": kind,
        **more,
    }


def vote(kind: str, number: int = 1, **more: Any) -> Vote:
    return parse_vote(json.dumps(fields(kind, number, **more)))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("rating", {"value": 5, "rubric": "tone", "comment": "warm", "dwell_ms": 900}),
        ("pass", {"value": False}),
        ("label", {"labels": ["rude", "不准确"]}),
        ("pair", PAIR),
        ("edit", {"edited_text": ""}),
        ("flag", {}),
        ("flag", {"labels": ["private"], "comment": "a phone number"}),
        ("comment", {"comment": "why?"}),
        ("skip", {"blind": True}),
        ("undo", {"undoes": "f" * 32}),
    ],
)
def test_a_vote_of_each_kind_survives_a_line(kind: str, more: dict[str, Any]) -> None:
    first = vote(kind, **more)
    line = first.to_line()
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert "null" not in line
    assert parse_vote(line) == first


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"score": 4}, "score: Extra inputs are not permitted", id="unknown key"),
        pytest.param({"value": 6}, "a whole number from 1 to 5", id="range"),
        pytest.param({"value": True}, "a whole number from 1 to 5", id="true is not 1"),
        pytest.param({"value": "5"}, "value", id="text is not a number"),
        pytest.param({"value": None}, "a vote of the kind rating needs value", id="no value"),
        pytest.param({"labels": ["x"]}, "does not have labels", id="of another kind"),
        pytest.param({"kind": "pass", "value": 1}, "true or false", id="1 is not true"),
        pytest.param({"kind": "pair", "value": None}, "needs choice, other_run_id", id="pair"),
        pytest.param({"kind": "comment", "value": None, "comment": " "}, "empty", id="empty"),
        pytest.param({"kind": "like"}, "kind: Input should be 'rating'", id="kind"),
        pytest.param({"vote_id": "7"}, "vote_id", id="vote_id"),
        pytest.param({"response_sha": SHA.upper()}, "response_sha", id="sha"),
        pytest.param(
            {"time": "2026-11-30T09:00:00"}, "time: Input should have timezone", id="time"
        ),
        pytest.param({"sample": -1}, "sample", id="sample"),
    ],
)
def test_what_a_vote_may_not_be(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        parse_vote(json.dumps(fields("rating", value=4) | changes))
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["ann", "王医生", "Zoë B.-K", "a_1@clinic", "अनिल", "9"])
def test_reviewers_are_people_of_any_script(name: str) -> None:
    assert vote("skip", reviewer=name).reviewer == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ann",
        "ann ",
        ".ann",
        "-ann",
        "../ann",
        "a/b",
        "a\\b",
        "a\nb",
        "a\u202eb",
        "王" * 34,
        "a:b",
    ],
)
def test_the_name_of_a_reviewer_is_the_name_of_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="reviewer: expected a name that can name a file"):
        vote("skip", reviewer=name)


def test_times_become_utc() -> None:
    assert vote("skip", time="2026-11-30T17:00:00+08:00").time == NOW
    assert '"time":"2026-11-30T09:00:00Z"' in vote("skip", time=NOW.isoformat()).to_line()


def test_the_hash_is_that_of_the_text() -> None:
    assert response_sha("你好") == hashlib.sha256("你好".encode()).hexdigest()
    assert response_sha(None) == response_sha("")


def numbers(votes: list[Vote]) -> list[int]:
    return [int(one.vote_id, 16) for one in standing_votes(votes)]


def test_an_undone_vote_does_not_count_and_an_undone_undo_restores_it() -> None:
    votes = [vote("rating", 1, value=2), vote("undo", 2, undoes=f"{1:032x}")]
    assert numbers(votes) == []
    assert numbers([*votes, vote("undo", 3, undoes=f"{2:032x}")]) == [1]


def test_only_the_reviewer_of_a_vote_can_undo_it() -> None:
    votes = [vote("rating", 1, value=2), vote("undo", 2, undoes=f"{1:032x}", reviewer="bob")]
    assert numbers(votes) == [1]


def test_a_later_vote_about_the_same_replaces_the_earlier_one_whatever_their_order_in_files() -> (
    None
):
    later, earlier = vote("rating", 5, value=4), vote("rating", 1, value=2)
    assert numbers([later, earlier]) == [5]
    undo = vote("undo", 6, undoes=later.vote_id)
    assert numbers([later, earlier, undo]) == [1]


def test_votes_about_different_things_stay() -> None:
    votes = [
        vote("rating", 1, value=2),
        vote("rating", 2, value=3, rubric="tone"),
        vote("rating", 3, value=3, reviewer="bob"),
        vote("rating", 4, value=3, sample=1),
        vote("rating", 5, value=3, id="8"),
        vote("pass", 6, value=True),
        vote("comment", 7, comment="one"),
        vote("comment", 8, comment="two"),
        vote("pair", 9, **PAIR),
        vote("pair", 10, **{**PAIR, "other_run_id": "r3"}),
    ]
    assert numbers(votes) == list(range(1, 11))
