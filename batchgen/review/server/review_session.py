"""The review behind the server: which answer goes to whom, and votes, each on disk before it counts.

    request ──checked──> Vote ──append and fsync──> feedback/REVIEWER.jsonl ──> acknowledged

The votes on disk are the state: a new session after a crash reads them, and continues.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from batchgen.feedback.vote import Shown, Vote
from batchgen.feedback.votes_file import append_vote, read_votes
from batchgen.review.queue.review_items import ReviewedAnswer, ReviewItem
from batchgen.review.queue.review_setup import ReviewSetup
from batchgen.review.queue.reviewed_run import ReviewedRun
from batchgen.review.server.reviewer_votes import PlacedVote, ReviewerVotes, raters_of
from batchgen.review.server.sides import is_about_other, shown_first, swap_choice
from batchgen.review.server.vote_request import RejectedError, VoteRequest, describe_problems

CLAIM_SECONDS = 900.0
"""After this time another reviewer gets an answer that somebody opened and did not rate."""

_BEFORE = datetime.min.replace(tzinfo=UTC)
_ONE_ANSWER = ("rating", "pass", "label", "edit", "flag", "comment", "skip", "undo")
_PAIRS = ("pair", "edit", "flag", "comment", "skip", "undo")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who has opened an answer last, and when, by the monotonic clock."""

    reviewer: str
    time: float


@dataclass(slots=True)
class ReviewSession:
    """The state of a review; its methods may be called from several threads.

    Attributes:
        overlap: share of the answers that every reviewer gets; each other one goes to one reviewer. None: all go to all.
        notes: what was left out of the files of votes, from the last reading.
    """

    setup: ReviewSetup
    overlap: float | None = None
    notes: Sequence[str] = ()
    _reviewers: dict[str, ReviewerVotes] = field(default_factory=dict)
    _claims: dict[int, Claim] = field(default_factory=dict)
    _places: dict[tuple[str, str, int, str], tuple[int, bool]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: datetime = _BEFORE

    def __post_init__(self) -> None:
        for n, item in enumerate(self.setup.items):
            for answer in (item.answer, item.other):
                if answer is not None:
                    key = (answer.run_id, item.id, answer.sample, answer.response_sha)
                    self._places[key] = (n, answer is item.other)
        self.read()

    @property
    def identity(self) -> dict[str, object]:
        """What an open page depends on: the answers by their numbers, the sides, the labels, the rubric."""
        options = self.setup.options
        return {
            **self.setup.config(),
            "seed": options.queue.seed,
            "overlap": self.overlap,
            "masked": options.masked,
        }

    def read(self) -> None:
        """Read the votes on disk, also those of other processes. StateError if a file is damaged."""
        with self._lock:
            self._reviewers = {}
            notes: list[str] = []
            for run in self._runs:
                saved = read_votes(run.folder)
                notes += saved.notes
                for vote in saved.votes:
                    self._place(vote)
            self.notes = notes
            for votes in self._reviewers.values():
                votes.votes.sort(key=lambda one: one.vote.time)
                self._last = max(self._last, votes.votes[-1].vote.time)

    @property
    def _runs(self) -> list[ReviewedRun]:
        run, other = self.setup.run, self.setup.other
        return [run] if other is None else [run, other]

    def _place(self, vote: Vote) -> None:
        """Keep a vote that is about an answer of the queue, by this rubric as far as it judges."""
        if vote.kind == "undo":
            own = self._reviewers.get(vote.reviewer, ReviewerVotes()).votes
            found = next((one for one in own if one.vote.vote_id == vote.undoes), None)
            place = None if found is None else (found.n, found.is_about_other)
        else:
            key = (vote.run_id, vote.id, vote.sample, vote.response_sha)
            place = self._places.get(key) if self._belongs(vote) else None
        if place is not None:
            first = self._first(vote.reviewer, place[0])
            placed = PlacedVote(place[0], vote, first, place[1])
            self._reviewers.setdefault(vote.reviewer, ReviewerVotes()).votes.append(placed)

    def _belongs(self, vote: Vote) -> bool:
        """Whether a vote is shown: judgements by this rubric; marks by any, unless they would show whose answer this is."""
        other = self.setup.other
        if other is None and vote.kind in ("edit", "flag", "comment"):
            return True
        if vote.kind == "pair" and (other is None or vote.other_run_id != other.run_id):
            return False
        return vote.rubric == self.setup.rubric.name

    def _first(self, reviewer: str, n: int) -> Shown:
        item, seed = self._item(n), self.setup.options.queue.seed
        if item.other is None:
            return "run"
        return shown_first(seed, reviewer, (item.answer.run_id, item.id, item.answer.sample))

    def state(self, reviewer: str) -> dict[str, Any]:
        """The queue of a reviewer, their votes, and the progress of all."""
        self.read()
        with self._lock:
            own = self._reviewers.get(reviewer, ReviewerVotes())
            return {
                "queue": self._queue(reviewer, own),
                "votes": [one.lean() for one in own.votes],
                "progress": self._progress(),
            }

    def _progress(self) -> list[dict[str, Any]]:
        """Who has done how many answers."""
        named = sorted(self._reviewers.items())
        return [{"name": name, "done": len(votes.done())} for name, votes in named]

    def counts(self) -> dict[str, int]:
        """Answers done by each reviewer."""
        with self._lock:
            return {one["name"]: one["done"] for one in self._progress()}

    def _queue(self, reviewer: str, own: ReviewerVotes) -> list[int]:
        everything = range(len(self.setup.items))
        if self.overlap is None:
            return list(everything)
        done = own.done()
        claimed = {n for n, claim in self._claims.items() if claim.reviewer == reviewer}
        return [n for n in everything if self._is_shared(n) or n in done or n in claimed]

    def _is_shared(self, n: int) -> bool:
        """Whether every reviewer gets an answer: these are spread evenly over the queue."""
        share = 1.0 if self.overlap is None else self.overlap
        return int((n + 1) * share + 1e-9) > int(n * share + 1e-9)

    def next(self, reviewer: str) -> int | None:
        """Another answer for a reviewer, which goes to nobody else; None if there is none.

        An answer that this reviewer got before is not given again: their vote about it may still be on its way. Votes that
        another server of the same run saved count too.
        """
        self.read()
        with self._lock:
            own = self._reviewers.get(reviewer, ReviewerVotes()).done()
            rated = {n for votes in self._reviewers.values() for n in votes.rated()}
            now = time.monotonic()
            for n in range(len(self.setup.items)):
                claim = self._claims.get(n)
                taken = claim is not None and (
                    claim.reviewer == reviewer or now - claim.time <= CLAIM_SECONDS
                )
                if not (self._is_shared(n) or n in own or n in rated or taken):
                    self._claims[n] = Claim(reviewer, now)
                    return n
            return None

    def item(self, n: int, reviewer: str) -> dict[str, Any]:
        """What the page shows of an answer. RejectedError if there is none with this number."""
        item = self._item(n)
        answers = [item.answer.shown]
        if item.other is not None:
            answers.append(item.other.shown)
            if self._first(reviewer, n) == "other":
                answers.reverse()
        with self._lock:
            raters = raters_of(n, self._reviewers)
        return {"n": n, **item.shown, "answers": answers, "raters": raters}

    def _item(self, n: int) -> ReviewItem:
        if not 0 <= n < len(self.setup.items):
            raise RejectedError(f"n: expected a number below {len(self.setup.items)}", "number")
        return self.setup.items[n]

    def record(self, request: VoteRequest) -> dict[str, Any]:
        """Save a vote; when this returns it is on disk. To repeat a request that was saved has no effect.

        Raises:
            RejectedError: it is not a vote about this queue.
            ResourceError: the disk is full, or may not be written.
        """
        with self._lock:
            known = self._reviewers.get(request.reviewer, ReviewerVotes()).votes
            if all(one.vote.vote_id != request.vote_id for one in known):
                placed = self._vote(request, known)
                run = self.setup.other if placed.is_about_other else self.setup.run
                folder = (run or self.setup.run).folder
                append_vote(folder, placed.vote, mode=self.setup.run.file_mode)
                own = self._reviewers.setdefault(request.reviewer, ReviewerVotes())
                own.votes.append(placed)
                if request.kind == "skip":
                    self._claims.pop(request.n, None)
            return {"saved": request.vote_id, "progress": self._progress()}

    def _vote(self, request: VoteRequest, known: Sequence[PlacedVote]) -> PlacedVote:
        allowed = _ONE_ANSWER if self.setup.other is None else _PAIRS
        if request.kind not in allowed:
            raise RejectedError(f"kind: expected one of {', '.join(allowed)}")
        n, first = request.n, self._first(request.reviewer, request.n)
        about_other = self.setup.other is not None and is_about_other(request.place, first)
        if request.kind == "undo":
            undone = next((one for one in known if one.vote.vote_id == request.undoes), None)
            if undone is None:
                raise RejectedError("undoes: not a vote of this reviewer about this queue", "undo")
            n, first, about_other = undone.n, undone.first, undone.is_about_other
        item = self._item(n)
        answer = item.other if about_other and item.other is not None else item.answer
        return PlacedVote(n, self._built(request, item, answer, first), first, about_other)

    def _built(
        self, request: VoteRequest, item: ReviewItem, answer: ReviewedAnswer, first: Shown
    ) -> Vote:
        names = ("vote_id", "reviewer", "kind", "value", "labels", "comment", "edited_text")
        values: dict[str, Any] = {name: getattr(request, name) for name in names}
        if request.kind == "pair" and request.choice is not None and item.other is not None:
            values |= {
                "choice": swap_choice(request.choice, first),
                "other_run_id": item.other.run_id,
                "other_sample": item.other.sample,
                "other_response_sha": item.other.response_sha,
                "shown_first": first,
            }
        try:
            return Vote(
                time=self._now(),
                run_id=answer.run_id,
                id=item.id,
                sample=answer.sample,
                response_sha=answer.response_sha,
                blind=not request.shown_metrics,
                undoes=request.undoes,
                dwell_ms=request.dwell_ms,
                rubric=self.setup.rubric.name,
                **values,
            )
        except ValidationError as error:
            raise RejectedError(describe_problems(error)) from None

    def _now(self) -> datetime:
        """The time, later than that of every earlier vote: the last vote counts."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last
