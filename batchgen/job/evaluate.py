"""What a job may say under `evaluate`: what is compared with what, over which slices, and what must hold.

The options of each type of metric are in its file under `metrics/`.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Self, Union

from pydantic import BeforeValidator, Field, model_validator

from batchgen.job.judge import Judge
from batchgen.metrics.base import MetricOptions
from batchgen.metrics.registry import METRIC_TYPES
from batchgen.section import AsTuple, NonEmptyText, NonEmptyTexts, Section


def _spelled_out(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


if TYPE_CHECKING:
    AnyMetric = MetricOptions
else:
    _SECTIONS = tuple(metric.options for metric in METRIC_TYPES.values())
    AnyMetric = Annotated[
        Annotated[Union[_SECTIONS], Field(discriminator="type")],  # noqa: UP007 - made of a tuple
        BeforeValidator(_spelled_out),
    ]


class Bins(Section):
    """A slice for each range of a number, such as `{column: output_tokens, bins: [0, 64, 256]}`."""

    column: NonEmptyText
    """Column of numbers: of the input, or of the answers."""
    bins: Annotated[tuple[float, ...], AsTuple, Field(min_length=1)]
    """Where ranges begin, rising: [0, 64] makes `0 to 64` without 64 itself, `64 and up`, and, if need be, `below 0`."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(a >= b for a, b in zip(self.bins, self.bins[1:], strict=False)):
            raise ValueError("bins must rise from one to the next")
        return self


class ConfidenceOptions(Section):
    """How intervals are made."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """How often an interval holds the true value."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Replicates of the bootstrap, for corpus metrics. 0 switches it off."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Decides which rows are drawn for each replicate."""


class Gate(Section):
    """A condition on a metric: min or max, or max_drop against a baseline, or min_coverage."""

    metric: NonEmptyText
    """Name of the metric."""
    slice: NonEmptyText | None = None
    """Name of a slice, such as `lang=zh`. Left out: all rows."""
    min: float | None = None
    """Least value that passes."""
    max: float | None = None
    """Greatest value that passes."""
    on: Literal["value", "ci_low", "ci_high"] = "value"
    """What is compared with min and max: the value, or an end of its interval, for evidence that it holds beyond this night's rows."""
    baseline: NonEmptyText | None = None
    """Folder of another run, relative to the job file; or `previous`: what `output.publish: gated` would replace."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """Passes only if a loss of more than this against the baseline can be ruled out (non-inferiority)."""
    min_coverage: Annotated[float, Field(gt=0, le=1)] | None = None
    """Least share of rows that have a score."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        bounds = self.min is not None or self.max is not None
        kinds = [bounds, self.max_drop is not None, self.min_coverage is not None]
        if sum(kinds) != 1:
            raise ValueError(
                "a gate has one condition: min or max or both, or max_drop, or min_coverage"
            )
        if (self.baseline is None) != (self.max_drop is None):
            raise ValueError("baseline and max_drop go together")
        if self.baseline is not None and self.slice is not None:
            raise ValueError("slice has no effect beside baseline: runs are compared over all rows")
        if self.on != "value" and not bounds:
            raise ValueError("on has no effect without min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max: nothing can pass")
        return self


Reasoning = Literal["keep", "drop"]


class Evaluate(Section):
    """How answers are scored. Scores land in the columns `score_<metric>`, their means in metrics.parquet."""

    reference: NonEmptyText | Annotated[NonEmptyTexts, Field(min_length=1)] | None = None
    """Column with the right answer, or a list of such columns. A cell may hold a list: any one of them is right."""
    cluster: NonEmptyText | None = None
    """Column that says which rows hang together, such as questions about one text. Left out: the answers of one row."""
    slices: Annotated[tuple[NonEmptyText | Bins, ...], AsTuple] = ()
    """Columns by whose values metrics are given as well; of numbers, in ranges: `{column: output_tokens, bins: [0, 64]}`."""
    reasoning: Reasoning = "keep"
    """drop: what an answer says between think marks is not scored. Matters with `output.reasoning: inline`, and to other tools' answers."""
    ci: ConfidenceOptions = ConfidenceOptions()
    metrics: Annotated[tuple[AnyMetric, ...], AsTuple] = ()
    """What is measured: each a type alone, such as `exact`, or a mapping with its options."""
    judges: Annotated[tuple[Judge, ...], AsTuple] = ()
    """Models that judge the answers, once all are there."""
    gates: Annotated[tuple[Gate, ...], AsTuple] = ()
    """What must hold. If a gate fails, or cannot be decided, the run ends with exit code 4."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [metric.name or metric.type for metric in self.metrics]
        judges = [judge.name for judge in self.judges]
        if twice := sorted({name for name in names if [*names, *judges].count(name) > 1}):
            raise ValueError(
                f"metrics: two are called {twice[0]!r}; give one of them another name: its scores need their own column"
            )
        if twice := sorted({name for name in judges if judges.count(name) > 1}):
            raise ValueError(f"judges: two are called {twice[0]!r}; give one of them another name")
        if not (self.metrics or self.judges) and (
            self.gates or self.slices or self.cluster or self.reference
        ):
            raise ValueError("metrics: nothing is measured, so that the other keys have no effect")
        return self
