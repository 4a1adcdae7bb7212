"""How often the answers of a run are better than those of another one, by the votes of people about pairs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchgen.evaluation.aggregate import OVERALL
from batchgen.evaluation.agreement.questions import PREFERENCE
from batchgen.feedback.vote import Vote
from batchgen.metrics.statistics.intervals import (
    FRACTION,
    Confidence,
    PointEstimate,
    cluster_mean,
    moments,
    row_mean,
)


@dataclass(frozen=True, slots=True)
class WinRate:
    """The votes about pairs with the answers of one other run.

    Attributes:
        rate: the share of wins; a tie, and two bad answers, count half. Clustered by prompt.
        shown_first: how often the answer that was shown first won, of the votes that chose one: 0.5 without position bias.
    """

    other_run: str
    slice: str
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int
    rate: PointEstimate
    shown_first: float | None


def win_rates(
    votes: Sequence[Vote], confidence: Confidence, slice_name: str = OVERALL
) -> list[WinRate]:
    """One per other run; the votes are those of a slice."""
    others = sorted({vote.other_run_id or "" for vote in votes})
    return [
        replace(
            _win_rate(other, [v for v in votes if v.other_run_id == other], confidence),
            slice=slice_name,
        )
        for other in others
    ]


def _win_rate(other: str, votes: Sequence[Vote], confidence: Confidence) -> WinRate:
    chosen = Counter(vote.choice for vote in votes)
    values = np.array([PREFERENCE[vote.choice or "tie"] for vote in votes])
    _, codes = np.unique([vote.id for vote in votes], return_inverse=True)
    sums = np.zeros((int(codes.max()) + 1, 2))
    np.add.at(sums, codes, np.column_stack([values, np.ones(len(values))]))
    if (sums[:, 1] == 1).all():
        rate = row_mean(moments(sums[:, 0]), confidence.level, FRACTION)
    else:
        rate = cluster_mean(sums, confidence.level, FRACTION)
    decided = [vote for vote in votes if vote.choice in ("a", "b")]
    first = sum((vote.choice == "a") == (vote.shown_first == "run") for vote in decided)
    return WinRate(
        other_run=other,
        slice=OVERALL,
        votes=len(votes),
        wins=chosen["a"],
        losses=chosen["b"],
        ties=chosen["tie"],
        both_bad=chosen["both_bad"],
        rate=rate,
        shown_first=first / len(decided) if decided else None,
    )
