"""Several answers to one prompt taken together: pass@k, pass^k, majority@k."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Annotated, Literal

from pydantic import Field

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.records import Score
from batchgen.section import AsTuple, NonEmptyText, PositiveInt


class _OfKOptions(MetricOptions):
    of: NonEmptyText
    """Name of the metric that decides what is right: its value is 1."""
    k: Annotated[tuple[PositiveInt, ...], AsTuple, Field(min_length=1)] = (1,)
    """Each is a metric with the number at the end of its name, such as `_4`. A prompt with fewer scored answers is not scored."""


class PassAtKOptions(_OfKOptions):
    """Probability that at least one of k answers to a prompt is right, without bias (Chen et al. 2021)."""

    type: Literal["pass_at_k"] = "pass_at_k"


class PassHatKOptions(_OfKOptions):
    """Probability that all of k answers to a prompt are right: pass^k (Yao et al. 2024)."""

    type: Literal["pass_hat_k"] = "pass_hat_k"


class MajorityAtKOptions(MetricOptions):
    """The most frequent answer to a prompt is right (self-consistency); of equally frequent ones the earliest counts."""

    type: Literal["majority_at_k"] = "majority_at_k"
    of: NonEmptyText
    """Name of the metric that extracts the answers: number, choice, exact, normalized_match."""
    k: PositiveInt | None = None
    """How many answers vote. Left out: all."""


@dataclass(frozen=True, slots=True)
class RightOfK:
    """Probability of an outcome of k samples, estimated from all n that the metric `of` scored.

    A sample is right if its score is 1. Samples without a score are left out of n. `probability` gets n, the number c
    of right samples, and k.
    """

    spec: Spec
    of: str
    k: int
    probability: Callable[[int, int, int], float]

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        del answers
        right = [score.value == 1.0 for score in scores if score.value is not None]
        if len(right) < self.k:
            return unscored(self.spec, "skipped", f"fewer than {self.k} scored samples")
        return Score(self.spec.name, self.probability(len(right), sum(right), self.k), "ok")


@dataclass(frozen=True, slots=True)
class MajorityAtK:
    """Whether the most frequent answer of the first k samples is right (Wang et al. 2022, self-consistency).

    Answers are what the metric `of` extracted; samples without one do not vote. Of equally frequent answers the
    earliest counts, and the rule is `tie`.
    """

    spec: Spec
    options: MajorityAtKOptions

    @property
    def of(self) -> str:
        return self.options.of

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """The score of the answer that won; 0 if no sample gave one."""
        del answers
        k = self.options.k
        if k is not None and len(scores) < k:
            return unscored(self.spec, "skipped", f"fewer than {k} samples")
        valid = [score for score in scores[:k] if score.value is not None]
        if not valid:
            return unscored(self.spec, "skipped", "no scored sample")
        votes = Counter(score.answer for score in valid if score.answer is not None)
        if not votes:
            return Score(self.spec.name, 0.0, "no_answer")
        (winner, count), *others = votes.most_common()
        value = next(score.value for score in valid if score.answer == winner)
        tied = any(other == count for _, other in others)
        return Score(self.spec.name, value, "ok", winner, "tie" if tied else "majority")


def _of_k(
    probability: Callable[[int, int, int], float],
) -> Callable[[Spec, _OfKOptions], tuple[RightOfK, ...]]:
    return lambda spec, o: tuple(RightOfK(spec.variant(str(k)), o.of, k, probability) for k in o.k)


# Chen et al. 2021, eq. 1; Yao et al. 2024, tau-bench.
PASS_AT_K = MetricType(PassAtKOptions, _of_k(lambda n, c, k: 1 - comb(n - c, k) / comb(n, k)))
PASS_HAT_K = MetricType(PassHatKOptions, _of_k(lambda n, c, k: comb(c, k) / comb(n, k)))
MAJORITY_AT_K = MetricType(MajorityAtKOptions, MajorityAtK)
