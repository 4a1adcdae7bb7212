"""The votes of one reviewer about the answers of a queue, as the page needs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchgen.feedback.vote import Shown, Vote, standing_votes
from batchgen.review.server.sides import swap_choice

_DECIDES = {"rating", "pass", "pair"}
"""Kinds of votes after which an answer is done."""


@dataclass(frozen=True, slots=True)
class PlacedVote:
    """A vote, the number of the answer in the queue, and which answer that reviewer sees first."""

    n: int
    vote: Vote
    first: Shown
    is_about_other: bool = False

    def lean(self) -> dict[str, Any]:
        """What the script needs of it; choices are places on the page."""
        vote = self.vote
        names = ("vote_id", "kind", "value", "labels", "comment", "edited_text", "undoes")
        found = {name: value for name in names if (value := getattr(vote, name)) is not None}
        if vote.choice is not None:
            found["choice"] = swap_choice(vote.choice, self.first)
        if vote.kind in ("edit", "flag"):
            found["place"] = "a" if self.is_about_other == (self.first == "other") else "b"
        return {"n": self.n, **found}


@dataclass(slots=True)
class ReviewerVotes:
    """All votes of a reviewer about the queue, undone ones included, in the order of their times."""

    votes: list[PlacedVote] = field(default_factory=list)

    def standing(self) -> list[PlacedVote]:
        """Those that count."""
        by_id = {one.vote.vote_id: one for one in self.votes}
        return [by_id[v.vote_id] for v in standing_votes(one.vote for one in self.votes)]

    def done(self) -> set[int]:
        """The answers that were rated, or skipped."""
        return {one.n for one in self.standing() if one.vote.kind in (*_DECIDES, "skip")}

    def rated(self) -> set[int]:
        return {one.n for one in self.standing() if one.vote.kind in _DECIDES}


def raters_of(n: int, reviewers: Mapping[str, ReviewerVotes]) -> Sequence[str]:
    """The reviewers who have rated an answer."""
    return [name for name, votes in sorted(reviewers.items()) if n in votes.rated()]
