"""`batchgen feedback import`: take the ratings files of exported review pages into a run. All of them, or none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.errors import DataError, StateError
from batchgen.feedback.run_votes import VoteProblems, find_problems
from batchgen.feedback.vote import Vote
from batchgen.feedback.votes_file import (
    SavedVotes,
    append_votes,
    merge_votes,
    read_votes,
    read_votes_file,
)
from batchgen.output.published_run import PublishedRun
from batchgen.storage.entries import is_file

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class ImportedVotes:
    """What an import did.

    Attributes:
        added: by reviewer.
        repeated: votes that the run has already, or that are in the files more than once.
        left_out: votes about answers that have changed or are gone.
    """

    added: dict[str, int]
    repeated: int
    left_out: int
    notes: Sequence[str]


def import_votes(
    run: PublishedRun, files: Sequence[Path], *, skip_changed: bool = False
) -> ImportedVotes:
    """Append the votes of ratings files to a run. To import a file again adds nothing.

    With `skip_changed`, votes about answers that have changed or are gone are left out and counted.

    Raises:
        DataError: a file is missing or damaged, or has votes about another run or about answers that have changed.
            Nothing was imported; all problems are listed.
        StateError: the run's own votes are damaged.
    """
    there = read_votes(run.folder)
    given = _read_files(files)
    merged = _merge([*given, (run.folder.path / "feedback", there)])
    known = {vote.vote_id for vote in there.votes}
    new = [vote for vote in merged.votes if vote.vote_id not in known]
    problems, _ = find_problems(run, new)
    elsewhere = _of_compared_runs(run, new)
    problems = replace(
        problems, other_run=[one for one in problems.other_run if one.run_id not in elsewhere]
    )
    _check(run, given, problems, skip_changed=skip_changed)
    bad = {vote.vote_id for vote in problems.votes}
    own = [vote for vote in new if vote.run_id == run.manifest.run_id]
    added = [vote for vote in own if vote.vote_id not in bad]
    append_votes(run.folder, added, mode=run.file_mode)
    by_reviewer: dict[str, int] = {}
    for vote in added:
        by_reviewer[vote.reviewer] = by_reviewer.get(vote.reviewer, 0) + 1
    repeated = sum(len(saved.votes) for _, saved in given) - len(new)
    notes = [note for _, saved in given for note in saved.notes]
    for run_id, votes in elsewhere.items():
        notes.append(
            f"{_count(votes)} about the run {run_id}, with which this one was compared: import the file into that run too"
        )
    return ImportedVotes(by_reviewer, repeated, len(bad), notes)


def _of_compared_runs(run: PublishedRun, votes: Sequence[Vote]) -> dict[str, list[Vote]]:
    """The votes about runs that pairs compare with this one, by run: a page of pairs has edits and flags of both runs."""
    own = run.manifest.run_id
    pairs = [{vote.run_id, vote.other_run_id or ""} for vote in votes if vote.kind == "pair"]
    compared = {name for pair in pairs if own in pair for name in pair if name not in ("", own)}
    found = {name: [v for v in votes if v.run_id == name] for name in sorted(compared)}
    return {name: listed for name, listed in found.items() if listed}


def _read_files(files: Sequence[Path]) -> list[tuple[Path, SavedVotes]]:
    read: list[tuple[Path, SavedVotes]] = []
    problems: list[str] = []
    for path in files:
        if not is_file(path):
            problems.append(f"{path}: no such file")
            continue
        try:
            read.append((path, read_votes_file(path)))
        except StateError as error:
            problems.append(error.message)
    if problems:
        raise DataError(
            "\n".join([*problems, "nothing was imported"]),
            hint="Give the ratings files that the exported review page saved.",
        )
    return read


def _merge(files: Sequence[tuple[Path, SavedVotes]]) -> SavedVotes:
    try:
        return merge_votes(files)
    except StateError as error:
        raise DataError(f"{error.message}; nothing was imported", hint=error.hint) from error


def _check(
    run: PublishedRun,
    given: Sequence[tuple[Path, SavedVotes]],
    problems: VoteProblems,
    *,
    skip_changed: bool,
) -> None:
    place = {vote.vote_id: path for path, saved in given for vote in saved.votes}
    lines = []
    if problems.other_run:
        runs = sorted({vote.run_id for vote in problems.other_run})
        lines.append(
            f"{_files(problems.other_run, place)}: {_count(problems.other_run)} about another run ({_listed(runs)}); "
            f"this one is {run.manifest.run_id}"
        )
    if problems.changed and not skip_changed:
        lines.append(
            f"{_files(problems.changed, place)}: {_count(problems.changed)} about answers whose text has changed: "
            f"rows {_rows(problems.changed)}"
        )
    if problems.no_row and not skip_changed:
        lines.append(
            f"{_files(problems.no_row, place)}: {_count(problems.no_row)} about rows that the run does not have: "
            f"{_rows(problems.no_row)}"
        )
    if not lines:
        return
    hint = (
        "Name the folder of the run that the page was exported from."
        if problems.other_run
        else "Import the others with --skip-changed."
    )
    raise DataError("\n".join([*lines, "nothing was imported"]), hint=hint)


def _count(votes: Sequence[Vote]) -> str:
    return f"{len(votes):,} vote{'s are' if len(votes) > 1 else ' is'}"


def _files(votes: Sequence[Vote], place: dict[str, Path]) -> str:
    return ", ".join(dict.fromkeys(str(place[vote.vote_id]) for vote in votes))


def _rows(votes: Sequence[Vote]) -> str:
    return _listed(list(dict.fromkeys(vote.id for vote in votes)))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
