"""The votes of a run that count, and the rows that they are about.

feedback/*.jsonl ── undone and replaced ones ──> votes ── other run, row gone, answer changed ──> RunVotes
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from batchgen.feedback.vote import Kind, Vote, response_sha, standing_votes
from batchgen.feedback.votes_file import SavedVotes, read_votes
from batchgen.output.published_run import PublishedRun

Key = tuple[str, int]
"""Id and sample of an answer."""

_NO_JUDGEMENT: frozenset[Kind] = frozenset({"undo", "skip"})


@dataclass(frozen=True, slots=True)
class VoteProblems:
    """Votes that cannot be about an answer of a run as it is now.

    Attributes:
        other_run: about another run.
        no_row: about a row that the run does not have.
        changed: about an answer whose text has changed since.
    """

    other_run: Sequence[Vote] = ()
    no_row: Sequence[Vote] = ()
    changed: Sequence[Vote] = ()

    @property
    def votes(self) -> list[Vote]:
        return [*self.other_run, *self.no_row, *self.changed]


@dataclass(frozen=True, slots=True)
class RunVotes:
    """The votes that count.

    Attributes:
        rows: the number of each row with a vote in the run's responses.
        saved: how many are on disk, those that do not count included.
    """

    run: PublishedRun
    votes: Sequence[Vote]
    problems: VoteProblems
    saved: int
    notes: Sequence[str] = ()
    rows: Mapping[Key, int] = field(default_factory=dict)

    def of_kind(self, *kinds: Kind) -> list[Vote]:
        return [vote for vote in self.votes if vote.kind in kinds]

    @property
    def counts(self) -> dict[str, int]:
        """How many votes of each kind count."""
        return dict(sorted(Counter(vote.kind for vote in self.votes).items()))

    @property
    def reviewers(self) -> dict[str, int]:
        """How many votes of each reviewer count."""
        return dict(sorted(Counter(vote.reviewer for vote in self.votes).items()))


def key_of(vote: Vote) -> Key:
    """The answer that a vote is about."""
    return (vote.id, vote.sample)


def load_run_votes(run: PublishedRun, saved: SavedVotes | None = None) -> RunVotes:
    """Read the votes of a run, or take the `saved` ones, and find their rows.

    Raises:
        StateError: a file of votes is damaged.
    """
    saved = read_votes(run.folder) if saved is None else saved
    counted = [vote for vote in standing_votes(saved.votes) if vote.kind not in _NO_JUDGEMENT]
    problems, rows = find_problems(run, counted)
    bad = {vote.vote_id for vote in problems.votes}
    votes = [vote for vote in counted if vote.vote_id not in bad]
    return RunVotes(run, votes, problems, len(saved.votes), saved.notes, rows)


def find_problems(
    run: PublishedRun, votes: Iterable[Vote]
) -> tuple[VoteProblems, Mapping[Key, int]]:
    """The votes that are not about the answers of a run as they are, and the row of every other one."""
    of_run, other_run = _split(votes, run.manifest.run_id)
    rows = find_rows(run, {key_of(vote) for vote in of_run})
    hashes = dict(zip(rows, _hashes(run, list(rows.values())), strict=True))
    no_row = [vote for vote in of_run if key_of(vote) not in rows]
    found = [vote for vote in of_run if key_of(vote) in rows]
    changed = [vote for vote in found if hashes[key_of(vote)] != vote.response_sha]
    return VoteProblems(other_run, no_row, changed), rows


def find_rows(run: PublishedRun, keys: Iterable[Key]) -> dict[Key, int]:
    """The numbers of the rows with these ids and samples, by them; without those that do not exist."""
    wanted = set(keys)
    if not wanted:
        return {}
    index = run.index(["id", "sample"])
    chosen = index.filter(index["id"].is_in([row_id for row_id, _ in wanted]))
    found = {(row_id, sample): row for row, row_id, sample in chosen.iter_rows()}
    return {key: found[key] for key in sorted(wanted & found.keys())}


def _hashes(run: PublishedRun, rows: Sequence[int]) -> list[str]:
    texts = run.responses.take(rows, [f"{run.manifest.prefix}response"]).column(0).to_pylist()
    return [response_sha(text) for text in texts]


def _split(votes: Iterable[Vote], run_id: str) -> tuple[list[Vote], list[Vote]]:
    of_run: list[Vote] = []
    others: list[Vote] = []
    for vote in votes:
        (of_run if vote.run_id == run_id else others).append(vote)
    return of_run, others
