"""What people say about the response: the mean of their votes. Made of the votes that `batchgen review` collects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

from pydantic import Field, model_validator

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, Unit, unscored
from batchgen.metrics.statistics.intervals import ValueRange
from batchgen.records import MetricRow, Score
from batchgen.section import NonEmptyText

VOTES_PREFIX = "votes:"
"""Precedes the name of a metric in the name of the column with its votes. Such columns are never written."""

_RATERS = "_raters"


class HumanOptions(MetricOptions):
    """The mean of what people say about the answer, in the votes of `batchgen review`. Also counts them: `human_raters`. Answers without votes have no score: gates need `min_coverage`. `batchgen feedback join` scores a run again after votes."""

    type: Literal["human"] = "human"
    votes: Literal["rating", "pass", "label", "pair"] = "rating"
    """rating: from 1 to 5. pass: the share that accepts the answer. label: the share that gave it `label`. pair: the share that finds it better than the other one; ties count half."""
    rubric: NonEmptyText | None = None
    """Only votes by this rubric, for ratings and passes. Left out: those of all rubrics."""
    label: NonEmptyText | None = None
    """The label to count, with `votes: label`."""
    min_raters: int = Field(default=1, ge=1)
    """Answers with votes of fewer people have no score."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.votes == "label") != (self.label is not None):
            raise ValueError("label and `votes: label` must be given together")
        if self.rubric is not None and self.votes not in ("rating", "pass"):
            raise ValueError("rubric has no effect without `votes: rating` or `votes: pass`")
        return self


def votes_column(metric: str) -> str:
    """The name of the column with a metric's votes: for each answer, one number of each reviewer."""
    return VOTES_PREFIX + metric


@dataclass(frozen=True, slots=True)
class Human:
    """The mean of the votes; `rule` of a score is the number of people."""

    spec: Spec
    column: str
    min_raters: int

    def score(self, answer: Answer) -> Score:
        values = _votes(answer, self.column)
        if len(values) < self.min_raters:
            return unscored(self.spec, "skipped", f"{len(values)} raters")
        given = ", ".join(f"{value:g}" for value in values)
        mean = sum(values) / len(values)
        return Score(self.spec.name, mean, "ok", given, f"{len(values)} raters")


@dataclass(frozen=True, slots=True)
class HumanRaters:
    """The number of people whose votes are in the score."""

    spec: Spec
    column: str

    def score(self, answer: Answer) -> Score:
        return Score(self.spec.name, float(len(_votes(answer, self.column))), "ok")


def _votes(answer: Answer, column: str) -> list[float]:
    cell = answer.fields.get(column)
    if not isinstance(cell, Sequence):
        return []
    return [float(value) for value in cell if isinstance(value, int | float)]


def is_rater_count(metrics: Mapping[str, MetricRow], name: str) -> bool:
    """Whether a metric is the number of raters of another one, not a quality of answers."""
    rated = name.removesuffix(_RATERS)
    return rated != name and rated in metrics and metrics[name].unit == "count"


def _make(spec: Spec, options: HumanOptions) -> tuple[Human, HumanRaters]:
    column = votes_column(spec.name)
    is_rating = options.votes == "rating"
    unit: Unit = "score" if is_rating else "fraction"
    own = replace(spec, unit=unit, declared_range=ValueRange(1.0, 5.0) if is_rating else None)
    raters = replace(
        spec.variant(_RATERS.removeprefix("_")),
        unit="count",
        higher_is_better=None,
        declared_range=None,
    )
    return Human(own, column, options.min_raters), HumanRaters(raters, column)


HUMAN = MetricType(HumanOptions, _make, needs="nothing", unit="score")
