"""`batchgen feedback import`: take the ratings files of exported review pages into a run. All of them, or none."""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchgen.errors import DataError, StateError
from batchgen.feedback.run_votes import VoteProblems, find_problems
from batchgen.feedback.vote import Vote
from batchgen.feedback.votes_file import (
    SavedVotes,
    append_votes,
    feedback_folder,
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


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What else is imported.

    Attributes:
        others: runs of which the files also have votes, such as the other run of an A|B review.
        same_answers: votes about the answers of any run count for this one, where it has the same text for the row.
        skip_changed: votes about answers that have changed or are gone are left out and counted, instead of an error.
    """

    others: Sequence[PublishedRun] = ()
    same_answers: bool = False
    skip_changed: bool = False


_DEFAULTS = ImportOptions()


def import_votes(
    run: PublishedRun, files: Sequence[Path], options: ImportOptions = _DEFAULTS
) -> ImportedVotes:
    """Append the votes of ratings files to the runs that they are about. To import a file again adds nothing.

    Raises:
        DataError: a file is missing or damaged, or has votes about other runs or about answers that have changed.
            Nothing was imported; all problems are listed.
        StateError: the votes of a run are damaged.
    """
    runs = {one.manifest.run_id: one for one in (run, *options.others)}
    there = [(feedback_folder(one.folder), read_votes(one.folder)) for one in runs.values()]
    given = _read_files(files)
    if options.same_answers:
        given = [(path, _adopted(saved, run, runs)) for path, saved in given]
    merged = _merge([*given, *there])
    known = {vote.vote_id for _, saved in there for vote in saved.votes}
    new = [vote for vote in merged.votes if vote.vote_id not in known]
    problems = _find_problems(runs, new)
    _check(list(runs), given, problems, skip_changed=options.skip_changed)
    bad = {vote.vote_id for vote in problems.votes}
    added = [vote for vote in new if vote.vote_id not in bad]
    for run_id, one in runs.items():
        own = [vote for vote in added if vote.run_id == run_id]
        append_votes(one.folder, own, mode=one.file_mode)
    by_reviewer = dict(Counter(vote.reviewer for vote in added))
    repeated = sum(len(saved.votes) for _, saved in given) - len(new)
    notes = [note for _, saved in given for note in saved.notes]
    return ImportedVotes(by_reviewer, repeated, len(bad), notes)


def _find_problems(runs: Mapping[str, PublishedRun], votes: Sequence[Vote]) -> VoteProblems:
    found = [
        find_problems(run, [vote for vote in votes if vote.run_id == run_id])[0]
        for run_id, run in runs.items()
    ]
    return VoteProblems(
        [vote for vote in votes if vote.run_id not in runs],
        [vote for one in found for vote in one.no_row],
        [vote for one in found for vote in one.changed],
    )


def _adopted(saved: SavedVotes, run: PublishedRun, runs: Mapping[str, PublishedRun]) -> SavedVotes:
    """The votes, those about a run that is not named as votes about the same row of `run`.

    Their ids follow from the old ones, so that a file may be imported again.
    """

    def adopt(vote: Vote) -> Vote:
        if vote.run_id in runs:
            return vote
        own = {"run_id": run.manifest.run_id, "vote_id": _new_id(vote.vote_id, run)}
        undoes = {} if vote.undoes is None else {"undoes": _new_id(vote.undoes, run)}
        return vote.model_copy(update={**own, **undoes})

    return replace(saved, votes=[adopt(vote) for vote in saved.votes])


def _new_id(vote_id: str, run: PublishedRun) -> str:
    return uuid.uuid5(uuid.UUID(hex=vote_id), run.manifest.run_id).hex


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
    own: Sequence[str],
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
            f"expected {_listed(own)}"
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
        "Name the run that the page was exported from, and its RUN2 with --other; or add --same-answers."
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
