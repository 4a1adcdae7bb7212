"""Agreement on one question: among all people, between two of them, and between people and a metric."""

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from batchgen.evaluation.agreement.questions import Question, RatedValue
from batchgen.feedback.run_votes import Key
from batchgen.metrics.statistics.agreement import (
    Level,
    RatedUnits,
    cohen_kappa,
    krippendorff_alpha,
)
from batchgen.metrics.statistics.intervals import (
    Confidence,
    Floats,
    PointEstimate,
    ValueRange,
)

PEOPLE = "people"
_LEVELS: Mapping[str, tuple[Level, ...]] = {
    "nominal": ("nominal",),
    "ordinal": ("nominal", "ordinal", "interval"),
}


@dataclass(frozen=True, slots=True)
class MetricValues:
    """The scores of a metric for the answers with votes. `bounds` is None where its values have no limits."""

    name: str
    bounds: ValueRange | None
    higher_is_better: bool | None
    values: Mapping[Key, float]


@dataclass(frozen=True, slots=True)
class Scope:
    """The answers that an agreement is about: a slice. `keys` is None for all of them."""

    slice: str
    keys: Collection[Key] | None
    confidence: Confidence

    def select(self, values: Sequence[RatedValue]) -> list[RatedValue]:
        return [one for one in values if self.keys is None or one.key in self.keys]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two sides, or all people, agree on one question.

    Attributes:
        between: the two sides; `people` alone for all of them.
        units: answers, or pairs of answers, with a value of both sides, or of two people.
        kappa: Cohen's, of two sides; None for people alone.
        weighted_kappa: with quadratic weights, where values have an order.
        alpha: Krippendorff's, by level.
        rank_correlation: Spearman's, between people and a metric; None elsewhere, and where one side has one value only.
    """

    question: str
    between: str
    slice: str
    units: int
    raters: int
    alpha: Mapping[Level, PointEstimate]
    kappa: PointEstimate | None = None
    weighted_kappa: PointEstimate | None = None
    rank_correlation: float | None = None


def agreement_among_people(question: Question, scope: Scope) -> Agreement:
    """Alpha over all reviewers."""
    values = scope.select(question.values)
    rated = _rated(values)
    return Agreement(
        question=question.name,
        between=PEOPLE,
        slice=scope.slice,
        units=len(np.unique(rated.pairable().units)),
        raters=len({one.reviewer for one in values}),
        alpha={
            one: krippendorff_alpha(rated, one, scope.confidence) for one in _LEVELS[question.scale]
        },
    )


def agreement_of_two(question: Question, scope: Scope) -> list[Agreement]:
    """Kappa of each two reviewers who judged an answer in common."""
    by_reviewer: dict[str, dict[tuple[str | int, ...], RatedValue]] = defaultdict(dict)
    for one in scope.select(question.values):
        by_reviewer[one.reviewer][one.unit] = one
    found = []
    for first, second in itertools.combinations(sorted(by_reviewer), 2):
        common = sorted(by_reviewer[first].keys() & by_reviewer[second].keys(), key=str)
        if common:
            sides = [[by_reviewer[name][unit] for unit in common] for name in (first, second)]
            found.append(_two_sides(question, f"{first} and {second}", sides, scope))
    return found


def agreement_with_metric(
    question: Question, metric: MetricValues, scope: Scope
) -> Agreement | None:
    """The mean of people against a metric, whose range is mapped to that of the question.

    None where the metric has no range or no direction, or scored no answer that people judged.
    """
    own, bounds = question.bounds, metric.bounds
    if own is None or bounds is None or metric.higher_is_better is None or not bounds.width:
        return None
    people = {one.key: one for one in mean_of_people(scope.select(question.values))}
    common = sorted(key for key in people if key in metric.values)
    if not common:
        return None
    given = np.array([metric.values[key] for key in common])
    share = (given - bounds.least) / bounds.width
    share = share if metric.higher_is_better else 1 - share
    mapped = own.least + share * own.width
    machine = [
        RatedValue(metric.name, people[key].unit, key, float(value))
        for key, value in zip(common, mapped, strict=True)
    ]
    sides = [[people[key] for key in common], machine]
    return _two_sides(question, f"{PEOPLE} and {metric.name}", sides, scope, metric=True)


def mean_of_people(values: Sequence[RatedValue]) -> list[RatedValue]:
    """One value for each answer: the mean of its reviewers."""
    by_key: dict[Key, list[float]] = defaultdict(list)
    for one in values:
        by_key[one.key].append(one.value)
    return [
        RatedValue(PEOPLE, key, key, math.fsum(found) / len(found)) for key, found in by_key.items()
    ]


def _two_sides(
    question: Question,
    between: str,
    sides: Sequence[Sequence[RatedValue]],
    scope: Scope,
    *,
    metric: bool = False,
) -> Agreement:
    first, second = (np.array([one.value for one in side]) for side in sides)
    rated = _rated([one for side in sides for one in side])
    levels = ("interval",) if metric and question.scale == "nominal" else _LEVELS[question.scale]
    clusters = _numbers([one.key[0] for one in sides[0]])
    whole = (np.floor(first + 0.5), np.floor(second + 0.5))
    weighted = question.scale == "ordinal"
    return Agreement(
        question=question.name,
        between=between,
        slice=scope.slice,
        units=len(first),
        raters=2,
        alpha={one: krippendorff_alpha(rated, one, scope.confidence) for one in levels},
        kappa=cohen_kappa(*whole, clusters, confidence=scope.confidence),
        weighted_kappa=cohen_kappa(
            *whole, clusters, weights="quadratic", confidence=scope.confidence
        )
        if weighted
        else None,
        rank_correlation=_spearman(first, second) if metric else None,
    )


def _rated(values: Sequence[RatedValue]) -> RatedUnits:
    units: dict[tuple[str | int, ...], int] = {}
    prompts: dict[str, int] = {}
    return RatedUnits.of(
        [
            (
                units.setdefault(one.unit, len(units)),
                one.value,
                prompts.setdefault(one.key[0], len(prompts)),
            )
            for one in values
        ]
    )


def _numbers(names: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _spearman(first: Floats, second: Floats) -> float | None:
    ranks = [_middle_ranks(one) for one in (first, second)]
    if len(first) < 3 or any(float(one.std()) == 0 for one in ranks):
        return None
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _middle_ranks(values: Floats) -> Floats:
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(middle[codes], np.float64)
