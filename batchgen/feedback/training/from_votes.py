"""Examples from the votes of people: pairs, ratings, passes and edits."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from batchgen.feedback.training.examples import (
    AnswerRef,
    LabelledAnswer,
    Origin,
    Preference,
    Side,
)
from batchgen.feedback.vote import Vote

Ratings = Mapping[AnswerRef, Mapping[str, float]]
"""For each answer the rating of each reviewer: the mean over rubrics."""


def ref_of(vote: Vote) -> AnswerRef:
    """The answer that a vote is about."""
    return AnswerRef(vote.run_id, vote.id, vote.sample)


def other_ref(vote: Vote) -> AnswerRef:
    """The other answer of a pair."""
    return AnswerRef(vote.other_run_id or "", vote.id, vote.other_sample or 0)


def preferences_of_pairs(votes: Sequence[Vote]) -> Iterator[Preference]:
    """The answer that more reviewers chose. None where as many chose the other one."""
    for (one, other), own in _by_pair(votes).items():
        a, b = (sum(vote.choice == choice for vote in own) for choice in ("a", "b"))
        if a == b:
            continue
        chosen, rejected = (one, other) if a > b else (other, one)
        origin = Origin("pairs", len(own), max(a, b) / len(own), abs(a - b) / len(own))
        yield Preference(Side(chosen), Side(rejected), origin)


def preferences_of_ratings(
    votes: Sequence[Vote], margin: float, source: str = "ratings"
) -> Iterator[Preference]:
    """Two answers to one prompt whose mean ratings differ by at least `margin`."""
    ratings = ratings_by_reviewer(votes)
    by_prompt: dict[str, list[AnswerRef]] = defaultdict(list)
    for ref in ratings:
        by_prompt[ref.id].append(ref)
    for refs in by_prompt.values():
        for one, other in itertools.combinations(sorted(refs), 2):
            apart = _mean(ratings[one]) - _mean(ratings[other])
            if abs(apart) < max(margin, 1e-9):
                continue
            chosen, rejected = (one, other) if apart > 0 else (other, one)
            both = sorted(ratings[one].keys() & ratings[other].keys())
            agree = [ratings[chosen][name] > ratings[rejected][name] for name in both]
            share = sum(agree) / len(agree) if agree else None
            raters = len(ratings[one].keys() | ratings[other].keys())
            origin = Origin(source, raters, share, abs(apart))
            yield Preference(Side(chosen), Side(rejected), origin)


def preferences_of_edits(votes: Sequence[Vote]) -> Iterator[Preference]:
    """What a reviewer made of an answer is better than the answer."""
    for vote in votes:
        ref = ref_of(vote)
        yield Preference(Side(ref, vote.edited_text or ""), Side(ref), Origin("edits", 1, 1.0))


def labels_of_pairs(votes: Sequence[Vote]) -> Iterator[LabelledAnswer]:
    """The chosen answer is good, the other one bad; both are bad where most reviewers say so."""
    for preference in preferences_of_pairs(votes):
        yield LabelledAnswer(preference.chosen, True, preference.origin)
        yield LabelledAnswer(preference.rejected, False, preference.origin)
    for refs, own in _by_pair(votes).items():
        bad = sum(vote.choice == "both_bad" for vote in own)
        if 2 * bad > len(own):
            origin = Origin("pairs", len(own), bad / len(own))
            yield from (LabelledAnswer(Side(ref), False, origin) for ref in refs)


def labels_of_ratings(
    votes: Sequence[Vote], *, good: float, bad: float
) -> Iterator[LabelledAnswer]:
    """Answers with a mean rating of `good` at least are good, those of `bad` at most are bad."""
    for ref, given in ratings_by_reviewer(votes).items():
        mean = _mean(given)
        if bad < mean < good:
            continue
        label = mean >= good
        agree = sum((value >= good) == label and not bad < value < good for value in given.values())
        yield LabelledAnswer(Side(ref), label, Origin("ratings", len(given), agree / len(given)))


def labels_of_passes(votes: Sequence[Vote]) -> Iterator[LabelledAnswer]:
    """Answers that more reviewers accept than reject are good; the reverse, bad."""
    for ref, given in ratings_by_reviewer(votes).items():
        share = _mean(given)
        if share != 0.5:
            origin = Origin("passes", len(given), max(share, 1 - share))
            yield LabelledAnswer(Side(ref), share > 0.5, origin)


def labels_of_edits(votes: Sequence[Vote]) -> Iterator[LabelledAnswer]:
    """What a reviewer made of an answer is good, the answer bad."""
    for preference in preferences_of_edits(votes):
        yield LabelledAnswer(preference.chosen, True, preference.origin)
        yield LabelledAnswer(preference.rejected, False, preference.origin)


def ratings_by_reviewer(votes: Sequence[Vote]) -> Ratings:
    """The value of each reviewer for each answer: the mean over rubrics."""
    found: dict[AnswerRef, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        found[ref_of(vote)][vote.reviewer].append(float(vote.value or 0))
    return {
        ref: {name: sum(values) / len(values) for name, values in given.items()}
        for ref, given in found.items()
    }


def _by_pair(votes: Sequence[Vote]) -> Mapping[tuple[AnswerRef, AnswerRef], list[Vote]]:
    found: dict[tuple[AnswerRef, AnswerRef], list[Vote]] = defaultdict(list)
    for vote in votes:
        found[ref_of(vote), other_ref(vote)].append(vote)
    return found


def _mean(given: Mapping[str, float]) -> float:
    return sum(given.values()) / len(given)
