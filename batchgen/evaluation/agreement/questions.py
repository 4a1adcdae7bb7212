"""What people were asked, as numbers: each rating, pass, label or choice is a value of one unit by one reviewer."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.feedback.run_votes import Key, RunVotes, key_of
from batchgen.feedback.vote import RATING, Choice, Vote
from batchgen.metrics.statistics.intervals import FRACTION, ValueRange

Scale = Literal["ordinal", "nominal"]

RATING_RANGE = ValueRange(float(RATING[0]), float(RATING[-1]))
CHOICES: tuple[Choice, ...] = ("a", "b", "tie", "both_bad")
PREFERENCE: dict[Choice, float] = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
"""How far an answer is better than the other one, as the main score of a pairwise judge."""
MAX_LABELS = 50
"""Labels with an agreement of their own: the most frequent ones."""


@dataclass(frozen=True, slots=True)
class RatedValue:
    """The value of one reviewer. `unit` is what was judged: an answer, or an answer and the other one of a pair."""

    reviewer: str
    unit: tuple[str | int, ...]
    key: Key
    value: float


@dataclass(frozen=True, slots=True)
class Question:
    """One question that reviewers answered.

    Attributes:
        scale: ordinal where values have an order; their distances then count too.
        bounds: of the values; None where they are names, not numbers.
        other_run: of pairs, the run with the other answers.
    """

    name: str
    scale: Scale
    bounds: ValueRange | None
    values: Sequence[RatedValue]
    other_run: str = ""


def questions_of(votes: RunVotes) -> list[Question]:
    """The questions that the votes of a run answer: ratings by rubric, passes, each label, pairs by the other run."""
    return [
        *_by_rubric(votes.of_kind("rating"), "rating", "ordinal", RATING_RANGE),
        *_by_rubric(votes.of_kind("pass"), "pass", "nominal", FRACTION),
        *_labels(votes.of_kind("label")),
        *_pairs(votes.of_kind("pair")),
    ]


def _by_rubric(
    votes: Sequence[Vote], kind: str, scale: Scale, bounds: ValueRange
) -> Iterable[Question]:
    rubrics = sorted({vote.rubric or "" for vote in votes})
    for rubric in rubrics:
        own = [vote for vote in votes if (vote.rubric or "") == rubric]
        name = f"{kind}: {rubric or 'no rubric'}" if len(rubrics) > 1 else kind
        values = _values(own, lambda vote: None if vote.value is None else float(vote.value))
        yield Question(name, scale, bounds, values)


def _labels(votes: Sequence[Vote]) -> Iterable[Question]:
    """One question for each label: whether the reviewer gave it, of those who labelled the answer."""
    count: dict[str, int] = {}
    for vote in votes:
        for label in vote.labels or ():
            count[label] = count.get(label, 0) + 1
    for label in sorted(count, key=lambda one: (-count[one], one))[:MAX_LABELS]:
        yield Question(f"label: {label}", "nominal", FRACTION, _label_values(votes, label))


def _label_values(votes: Sequence[Vote], label: str) -> list[RatedValue]:
    return _values(votes, lambda vote: float(label in (vote.labels or ())))


def _pairs(votes: Sequence[Vote]) -> Iterable[Question]:
    for other in sorted({vote.other_run_id or "" for vote in votes}):
        own = [vote for vote in votes if vote.other_run_id == other]
        values = _values(own, lambda vote: float(CHOICES.index(vote.choice or "tie")))
        yield Question(f"pair: {other}", "nominal", None, values, other)


def preferences(votes: Sequence[Vote]) -> list[RatedValue]:
    """Choices of pairs as `PREFERENCE`."""
    return _values(votes, lambda vote: PREFERENCE[vote.choice or "tie"])


def _values(votes: Sequence[Vote], value: Callable[[Vote], float | None]) -> list[RatedValue]:
    found = []
    for vote in votes:
        number = value(vote)
        if number is not None:
            unit = (*key_of(vote), vote.other_run_id or "", vote.other_sample or 0)
            found.append(RatedValue(vote.reviewer, unit, key_of(vote), number))
    return found
