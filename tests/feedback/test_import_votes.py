"""Ratings files enter a run as a whole or not at all; what cannot be about its answers is an error that names it."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from batchgen.errors import DataError
from batchgen.feedback.import_votes import ImportOptions, import_votes
from batchgen.feedback.run_votes import load_run_votes
from batchgen.feedback.vote import Vote
from batchgen.feedback.votes_file import append_vote, read_votes
from batchgen.output.published_run import PublishedRun
from tests.feedback.conftest import MakeRun, Voter


def write(path: Path, votes: Iterable[Vote]) -> Path:
    path.write_text("".join(vote.to_line() for vote in votes))
    return path


def saved(run: PublishedRun) -> int:
    return len(read_votes(run.folder).votes)


def test_files_are_added_and_adding_them_again_adds_nothing(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    vote = Voter(run)
    ann = write(tmp_path / "a.jsonl", [vote("r0", "rating", value=4), vote("r1", "skip")])
    both = [vote("r1", "rating", value=2, reviewer="bob"), vote("r0", "pass", value=True)]
    bob = write(tmp_path / "b.jsonl", both)
    done = import_votes(run, [ann, bob])
    assert (done.added, done.repeated) == ({"ann": 3, "bob": 1}, 0)
    again = import_votes(run, [ann, bob, bob])
    assert (again.added, again.repeated) == ({}, 6)
    assert saved(run) == 4
    assert sorted(p.name for p in (run.folder.path / "feedback").iterdir()) == [
        "ann.jsonl",
        "bob.jsonl",
    ]


def test_two_files_with_the_same_vote_count_it_once(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    votes = [Voter(run)("r0", "rating", value=4)]
    files = [write(tmp_path / name, votes) for name in ("a.jsonl", "b.jsonl")]
    done = import_votes(run, files)
    assert (done.added, done.repeated, saved(run)) == ({"ann": 1}, 1, 1)


def test_a_vote_that_differs_from_a_saved_one_with_its_id_is_an_error(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    vote = Voter(run)("r0", "rating", value=4)
    append_vote(run.folder, vote)
    other = write(tmp_path / "a.jsonl", [vote.model_copy(update={"value": 1})])
    with pytest.raises(DataError, match=f"the vote {vote.vote_id} differs .*nothing was imported"):
        import_votes(run, [other])
    assert read_votes(run.folder).votes == [vote]


def test_votes_about_another_run_are_an_error_and_nothing_is_imported(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run, other = make_run(), make_run("other", run={"seed": 7})
    good = write(tmp_path / "good.jsonl", [Voter(run)("r0", "rating", value=4)])
    bad = write(tmp_path / "bad.jsonl", [Voter(other)("r0", "rating", value=4)])
    with pytest.raises(DataError, match=r"bad\.jsonl: 1 vote is about another run") as caught:
        import_votes(run, [good, bad])
    assert other.manifest.run_id in caught.value.message
    assert run.manifest.run_id in caught.value.message
    assert caught.value.message.endswith("nothing was imported")
    assert saved(run) == 0


def test_votes_about_changed_answers_are_an_error_or_are_counted(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    vote = Voter(run)
    changed = vote("r3", "rating", value=1, response_sha="0" * 64)
    gone = vote("r0", "rating", value=1).model_copy(update={"id": "r99"})
    file = write(tmp_path / "a.jsonl", [changed, gone, vote("r0", "rating", value=4)])
    with pytest.raises(DataError, match="whose text has changed: rows r3") as caught:
        import_votes(run, [file])
    assert "1 vote is about rows that the run does not have: r99" in caught.value.message
    assert "--skip-changed" in caught.value.hint
    assert saved(run) == 0
    done = import_votes(run, [file], ImportOptions(skip_changed=True))
    assert (done.added, done.left_out, saved(run)) == ({"ann": 1}, 2, 1)


def test_all_damaged_and_missing_files_are_listed_at_once(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text('{"vote_id": 1}\nno json\n')
    with pytest.raises(DataError, match=r"damaged\.jsonl:1: not a vote") as caught:
        import_votes(run, [damaged, tmp_path / "missing.jsonl"])
    assert "missing.jsonl: no such file" in caught.value.message


def test_a_download_that_was_cut_short_is_noted(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    vote = Voter(run)
    file = write(tmp_path / "a.jsonl", [vote("r0", "rating", value=4), vote("r1", "skip")])
    file.write_bytes(file.read_bytes()[:-9])
    done = import_votes(run, [file])
    assert done.added == {"ann": 1}
    assert len(done.notes) == 1
    assert "a.jsonl:2: the last line is not complete" in done.notes[0]


def test_the_files_of_a_pairwise_review_have_votes_about_both_runs(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run, other = make_run(), make_run("other", run={"seed": 7})
    first, second = Voter(run), Voter(other)
    file = write(
        tmp_path / "a.jsonl",
        [first.pair("r0", "b", other), second("r0", "edit", edited_text="Better.")],
    )
    with pytest.raises(DataError, match="about another run") as caught:
        import_votes(run, [file])
    assert "--other" in caught.value.hint
    done = import_votes(run, [file], ImportOptions([other]))
    assert (done.added, saved(run), saved(other)) == ({"ann": 2}, 1, 1)
    assert import_votes(run, [file], ImportOptions([other])).repeated == 2


def test_votes_about_the_same_answers_of_another_run_can_be_taken(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run, other = make_run(), make_run("other", run={"seed": 7})
    vote = Voter(other)
    wrong = vote("r1", "rating", value=2)
    votes = [
        vote("r0", "rating", value=4),
        wrong,
        vote("r1", "undo", undoes=wrong.vote_id),
        vote("r2", "rating", value=1, response_sha="0" * 64),
    ]
    file = write(tmp_path / "a.jsonl", votes)
    same = ImportOptions(same_answers=True, skip_changed=True)
    done = import_votes(run, [file], same)
    assert (done.added, done.left_out) == ({"ann": 3}, 1)
    assert import_votes(run, [file], same).added == {}
    counted = load_run_votes(run)
    assert [(one.id, one.value) for one in counted.votes] == [("r0", 4)]
    assert {one.run_id for one in read_votes(run.folder).votes} == {run.manifest.run_id}
