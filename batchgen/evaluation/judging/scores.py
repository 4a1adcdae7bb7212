"""The scores of a judge: from the log-probabilities of its labels to numbers.

    rubric      one distribution over the scale          mean of the scale by probability
    pairwise    one over A and B, in each of two orders  better in both orders: 1, in neither: 0, else 0.5

Probabilities are a softmax over the allowed labels. Their share of the whole vocabulary's probability is the label mass;
below `MIN_LABEL_MASS` the model would have answered something else, and the answer has no score.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchgen.job.judge import TYPE, VERSION, Judge
from batchgen.metrics.base import Answer, Floats, Spec, Unit, unscored
from batchgen.metrics.statistics.intervals import ValueRange
from batchgen.records import Score, Status

MIN_LABEL_MASS = 0.5
"""Least label mass with a score."""

JudgeState = Literal[
    "judged",
    "cut",
    "empty",
    "empty_baseline",
    "both_empty",
    "no_baseline",
    "different_prompt",
    "unreadable",
    "failed",
]
"""The origin of a judgement, or why there is none.

    judged            the judge was queried
    cut               the same, but the texts did not fit and were cut
    empty             the answer is empty: the worst verdict, without a query
    empty_baseline    the other answer is empty: this one is better
    both_empty        both are empty
    no_baseline       the other answer does not exist
    different_prompt  the other answer has another prompt
    unreadable        the cell of the reference or of the other answer is in no form that batchgen reads
    failed            the query failed
"""


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """The result of judging one answer. `logprobs` are those of the labels, order after order; empty without a query."""

    state: JudgeState
    logprobs: Sequence[float] = ()
    code: str = ""


VerdictReader = Callable[[Answer], JudgeResult | None]
"""Finds the judgement of an answer; None for an answer that is not judged."""


@dataclass(frozen=True, slots=True)
class VerdictProbabilities:
    """A judgement in probabilities: softmax over the labels, float64 [orders, labels], and label mass, float64 [orders]."""

    probabilities: Floats
    mass: Floats


FixedVerdicts = Mapping[JudgeState, VerdictProbabilities]


@dataclass(frozen=True, slots=True)
class JudgeStatistic:
    """A number computed from a verdict.

    Attributes:
        suffix: of the metric's name, after the judge's; empty for the main number.
        queried: whether it describes the judge, so that it has no value without a query.
        value_range: of a unit other than fraction.
    """

    suffix: str
    value: Callable[[VerdictProbabilities], float]
    unit: Unit = "fraction"
    higher_is_better: bool | None = None
    min_mass: float = MIN_LABEL_MASS
    value_range: ValueRange | None = None
    queried: bool = False


_UNJUDGED: Mapping[JudgeState, Status] = {
    "no_baseline": "skipped",
    "different_prompt": "skipped",
    "unreadable": "unparsed",
}


@dataclass(frozen=True, slots=True)
class JudgeMetric:
    """One number of a judge about each answer. `labels` are in the order of a verdict's probabilities."""

    spec: Spec
    statistic: JudgeStatistic
    read: VerdictReader
    labels: Sequence[str]
    fixed: FixedVerdicts

    def score(self, answer: Answer) -> Score:
        """The number; none where the answer was not judged, or the label mass is too small."""
        result = self.read(answer)
        if result is None:
            return unscored(self.spec, "skipped")
        if result.state == "failed":
            return unscored(self.spec, "error", result.code)
        if status := _UNJUDGED.get(result.state):
            return unscored(self.spec, status, result.state)
        if result.logprobs:
            return self._judged(result)
        fixed = self.fixed.get(result.state)
        value = None if fixed is None else self.statistic.value(fixed)
        return Score(self.spec.name, value, "empty", None, result.state)

    def _judged(self, result: JudgeResult) -> Score:
        verdict = verdict_probabilities(result.logprobs, len(self.labels))
        rule = f"{result.state}: {_describe(verdict, self.labels)}"
        if float(verdict.mass.min()) < self.statistic.min_mass:
            return unscored(self.spec, "unparsed", rule)
        best = [self.labels[position] for position in verdict.probabilities.argmax(axis=-1)]
        return Score(self.spec.name, self.statistic.value(verdict), "ok", ", ".join(best), rule)


def _describe(verdict: VerdictProbabilities, labels: Sequence[str]) -> str:
    """Such as `1 0.031, 2 0.212, …, mass 0.998`; order after order."""
    orders = []
    for shares, mass in zip(verdict.probabilities.tolist(), verdict.mass.tolist(), strict=True):
        named = zip((*labels, "mass"), (*shares, mass), strict=True)
        orders.append(", ".join(f"{name} {share:.3f}" for name, share in named))
    return "; ".join(orders)


def judge_metrics(judge: Judge, read: VerdictReader, signature: str) -> tuple[JudgeMetric, ...]:
    """The metrics of a judge, the main one first.

    `signature` is a hash of everything outside its section that decides its verdicts: its model, its rubric.
    """
    made = []
    for one in _rubric_statistics(judge) if judge.mode == "rubric" else _PAIRWISE:
        name, fixed = judge.name + one.suffix, {} if one.queried else _fixed_verdicts(judge)
        spec = Spec(
            name,
            TYPE,
            VERSION,
            one.unit,
            one.higher_is_better,
            signature=signature,
            declared_range=one.value_range,
        )
        made.append(JudgeMetric(spec, one, read, judge.labels, fixed))
    return tuple(made)


def _fixed_verdicts(judge: Judge) -> FixedVerdicts:
    """The verdicts on empty answers."""
    if judge.mode == "rubric":
        worst = np.zeros((1, len(judge.labels)))
        worst[0, 0] = 1.0
        return {"empty": VerdictProbabilities(worst, np.ones(1))}
    both = np.ones(2)
    return {
        "empty": VerdictProbabilities(np.array([[0.0, 1.0], [1.0, 0.0]]), both),
        "empty_baseline": VerdictProbabilities(np.array([[1.0, 0.0], [0.0, 1.0]]), both),
        "both_empty": VerdictProbabilities(np.full((2, 2), 0.5), both),
    }


def verdict_probabilities(logprobs: Sequence[float], labels: int) -> VerdictProbabilities:
    """Convert log-probabilities of `labels` labels, order after order, to a verdict."""
    table = np.array(logprobs, np.float64).reshape(-1, labels)
    best = table.max(axis=-1, keepdims=True)
    weights = np.exp(table - np.where(np.isfinite(best), best, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    # Where every label is impossible, the label mass is 0, and these are not used.
    chances = np.divide(weights, total, out=np.full_like(weights, 1 / labels), where=total > 0)
    return VerdictProbabilities(chances, np.exp(table).sum(axis=-1))


def _mass(verdict: VerdictProbabilities) -> float:
    return min(1.0, float(verdict.mass.min()))


def _rubric_statistics(judge: Judge) -> tuple[JudgeStatistic, ...]:
    scale = np.array(judge.verdicts, np.float64)

    def mean(verdict: VerdictProbabilities) -> float:
        return float(verdict.probabilities[0] @ scale)

    ends = ValueRange(float(scale[0]), float(scale[-1]))
    main = JudgeStatistic("", mean, "score", higher_is_better=True, value_range=ends)
    return (main, _MASS)


def _votes(verdict: VerdictProbabilities) -> tuple[float, float]:
    """The preference in each order: 1 the answer, -1 the other one, 0 neither. The answer is shown first, then second."""
    shown_first, shown_second = np.sign(
        verdict.probabilities[:, 0] - verdict.probabilities[:, 1]
    ).tolist()
    return shown_first, -shown_second


def _won(verdict: VerdictProbabilities) -> float:
    balance = sum(_votes(verdict))
    return 1.0 if balance == 2 else 0.0 if balance == -2 else 0.5


def _preference(verdict: VerdictProbabilities) -> float:
    return float(verdict.probabilities[0, 0] + 1 - verdict.probabilities[1, 0]) / 2


def _tied(verdict: VerdictProbabilities) -> float:
    return float(_won(verdict) == 0.5)


def _flipped(verdict: VerdictProbabilities) -> float:
    one, other = _votes(verdict)
    return float(one * other < 0)


def _first(verdict: VerdictProbabilities) -> float:
    """How often the answer that was shown first won; 0.5 without position bias."""
    one, other = _votes(verdict)
    return (2 + one - other) / 4


_MASS = JudgeStatistic("_label_mass", _mass, min_mass=0.0, queried=True)
_PAIRWISE = (
    JudgeStatistic("", _won, higher_is_better=True),
    JudgeStatistic("_preference", _preference, higher_is_better=True),
    JudgeStatistic("_tie", _tied),
    JudgeStatistic("_position_flip", _flipped, higher_is_better=False, queried=True),
    JudgeStatistic("_first_position", _first, queried=True),
    _MASS,
)
