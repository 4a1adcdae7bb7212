"""Several answers to one prompt taken together: pass@k, pass^k, majority@k."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from batchgen.metrics.base import Answer, Spec, unscored
from batchgen.records import Score


@dataclass(frozen=True, slots=True)
class PassAtK:
    """Chance that at least one of k samples is right, estimated from all n without bias (Chen et al. 2021, eq. 1).

    A sample is right if the metric `of` gives it 1. Samples without a score are left out of n.
    """

    spec: Spec
    of: str
    k: int

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """1 - C(n - c, k) / C(n, k), with c right ones of n; not scored if n < k."""
        del answers
        right = _right(scores)
        n, c = len(right), sum(right)
        if n < self.k:
            return unscored(self.spec, "skipped", f"fewer than {self.k} scored samples")
        return Score(self.spec.name, 1 - comb(n - c, self.k) / comb(n, self.k), "ok")


@dataclass(frozen=True, slots=True)
class AllOfK:
    """Chance that all of k samples are right: pass^k (Yao et al. 2024, tau-bench), estimated as C(c, k) / C(n, k)."""

    spec: Spec
    of: str
    k: int

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """From 0 to 1; not scored if there are fewer than k scored samples."""
        del answers
        right = _right(scores)
        n, c = len(right), sum(right)
        if n < self.k:
            return unscored(self.spec, "skipped", f"fewer than {self.k} scored samples")
        return Score(self.spec.name, comb(c, self.k) / comb(n, self.k), "ok")


@dataclass(frozen=True, slots=True)
class Majority:
    """Whether the most frequent answer of the first k samples is right (Wang et al. 2022, self-consistency).

    Answers are what the metric `of` extracted; samples without one do not vote. Of equally frequent answers the
    earliest counts, and the rule says `tie`.

    Attributes:
        k: None for all samples.
    """

    spec: Spec
    of: str
    k: int | None

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """The score of the answer that won; 0 if no sample gave one."""
        del answers
        if self.k is not None and len(scores) < self.k:
            return unscored(self.spec, "skipped", f"fewer than {self.k} samples")
        scored = [score for score in scores[: self.k] if score.value is not None]
        if not scored:
            return unscored(self.spec, "skipped", "no scored sample")
        votes = Counter(score.answer for score in scored if score.answer is not None)
        if not votes:
            return Score(self.spec.name, 0.0, "no_answer")
        (winner, count), *others = votes.most_common()
        value = next(score.value for score in scored if score.answer == winner)
        tied = any(other == count for _, other in others)
        return Score(self.spec.name, value, "ok", winner, "tie" if tied else "majority")


def _right(scores: Sequence[Score]) -> list[bool]:
    return [score.value == 1.0 for score in scores if score.value is not None]
