"""The section `evaluate`: metrics, judges, slices and gates."""

from typing import TYPE_CHECKING, Annotated, Literal, Self, Union

from pydantic import BeforeValidator, Field, model_validator

from batchgen.job.judge import Judge
from batchgen.metrics.base import MetricOptions
from batchgen.metrics.registry import METRIC_TYPES
from batchgen.section import AsTuple, NonEmptyText, NonEmptyTexts, Role, Section


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
    """A slice for each range of a numeric column, such as `{column: output_tokens, bins: [0, 64, 256]}`."""

    column: NonEmptyText
    """Numeric column of the input or of the answers."""
    bins: Annotated[tuple[float, ...], AsTuple, Field(min_length=1)]
    """Start of each range, ascending: [0, 64] gives `0 to 64` (64 excluded), `64 and up`, and `below 0` if there are such rows."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(a >= b for a, b in zip(self.bins, self.bins[1:], strict=False)):
            raise ValueError("bins must be in ascending order")
        return self


class ConfidenceOptions(Section):
    """How confidence intervals are computed."""

    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level."""
    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Bootstrap replicates, for corpus metrics. 0: no intervals for them."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the bootstrap."""


DriftKind = Literal["length", "finish_reason", "refusal", "language", "duplicates"]


class Gate(Section):
    """A condition on a metric: min and max, or max_drop against a baseline, or min_coverage alone. It fails if the metric has a score for fewer than 95 % of its rows; `min_coverage` sets another share. Or a condition on the answers themselves: `{drift: length, max_p: 0.01, baseline: previous}` fails if they differ from those of the baseline by more than chance."""

    metric: NonEmptyText | None = None
    """Name of the metric."""
    drift: DriftKind | None = None
    """Instead of a metric: what of the answers must be distributed as in the baseline. Each prompt counts once. language is the script, which distinguishes Chinese from English, not French from English."""
    slice: NonEmptyText | None = None
    """Name of a slice, such as `lang=zh`. Left out: all rows."""
    min: float | None = None
    """Smallest value that passes."""
    max: float | None = None
    """Largest value that passes."""
    on: Literal["value", "ci_low", "ci_high"] = "value"
    """What is compared with min and max: the value, or a bound of its confidence interval."""
    baseline: NonEmptyText | None = None
    """Folder of another run, relative to the job file; or `previous`: the answers that the run replaces. With `${date}` in `output.path`, where a new folder has none, the newest finished run of the job in the folders of other days that started before. Without such a run, the gate passes."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """Passes only if a loss of more than this against the baseline can be ruled out (a non-inferiority test)."""
    max_p: Annotated[float, Field(ge=0.005, le=0.2)] | None = None
    """With drift: fails if p is below this. p is adjusted for the number of gates on drift (Holm). With so few prompts that no p could be, the gate is undecided."""
    min_distance: Annotated[float, Field(ge=0, le=1)] | None = None
    """With drift: a smaller distance of the two distributions, from 0 to 1, passes. With many prompts the smallest difference has a small p."""
    min_coverage: Annotated[float, Field(ge=0, le=1)] | None = None
    """Smallest share of rows that must have a score, alone or with another condition. Left out: 0.95."""
    min_agreement: Annotated[float, Field(gt=-1, le=1)] | None = None
    """The metric counts only if it agrees with people: Krippendorff's alpha (interval) with the metric `agreement_with` must be at least this; otherwise the gate is undecided."""
    agreement_with: NonEmptyText = "human"
    """Name of the metric of the type `human` that `min_agreement` is about."""
    agreement_run: NonEmptyText | None = None
    """Folder of a run with votes, relative to the job file, or `previous` as for `baseline`, where the agreement is measured. The metric must be the same there. Left out: the run itself, which has votes only after a review."""

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if (self.metric is None) == (self.drift is None):
            raise ValueError("a gate needs either metric or drift; give one of them")
        if self.drift is not None:
            self._check_drift()
        else:
            self._check_metric()
        return self

    def _check_drift(self) -> None:
        self._refuse(
            ("slice", "min", "max", "max_drop", "min_coverage", "min_agreement"), "with drift"
        )
        if self.on != "value":
            raise ValueError("on has no effect with drift")
        if self.max_p is None or self.baseline is None:
            raise ValueError(
                "drift needs max_p and baseline; set them, such as max_p: 0.01, baseline: previous"
            )

    def _refuse(self, names: tuple[str, ...], where: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect {where}")

    def _check_metric(self) -> None:
        self._refuse(("max_p", "min_distance"), "without drift")
        bounds = self.min is not None or self.max is not None
        if bounds and self.max_drop is not None:
            raise ValueError("max_drop cannot be combined with min and max; write two gates")
        if not (bounds or self.max_drop is not None or self.min_coverage is not None):
            conditions = "min or max or both, or max_drop, or min_coverage"
            raise ValueError(f"a gate needs a condition: {conditions}")
        if self.only_coverage and not self.min_coverage:
            raise ValueError("min_coverage: 0 has no effect without another condition")
        if (self.baseline is None) != (self.max_drop is None):
            raise ValueError("baseline and max_drop must be given together")
        if self.baseline is not None and self.slice is not None:
            raise ValueError("slice has no effect with baseline: runs are compared over all rows")
        if self.on != "value" and not bounds:
            raise ValueError("on has no effect without min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max: no value can pass")

    @model_validator(mode="after")
    def _agreement(self) -> Self:
        if self.min_agreement is None and self.agreement_run is not None:
            raise ValueError("agreement_run has no effect without min_agreement")
        return self

    @property
    def only_coverage(self) -> bool:
        """Whether the share of rows with a score is the whole condition."""
        return self.min is None and self.max is None and self.max_drop is None


Reasoning = Literal["keep", "drop"]


class Evaluate(Section):
    """How answers are scored. Scores are in the columns `score_<metric>`, their means in metrics.parquet."""

    reference: NonEmptyText | Annotated[NonEmptyTexts, Field(min_length=1)] | None = None
    """Column with the correct answer, or a list of such columns. A cell may contain a list, or SQuAD's `{text, answer_start}`, also as JSON: each text is correct. A row with another form of cell is not scored."""
    cluster: NonEmptyText | None = None
    """Column that groups dependent rows (such as questions about one text), for clustered standard errors. Left out: the answers of one row form a group."""
    slices: Annotated[tuple[NonEmptyText | Bins, ...], AsTuple] = ()
    """Columns for whose values metrics are also computed separately; numeric columns in ranges: `{column: output_tokens, bins: [0, 64]}`."""
    reasoning: Reasoning = "keep"
    """drop: text between think marks is not scored. Relevant with `output.reasoning: inline` and for answers of other tools."""
    ci: ConfidenceOptions = ConfidenceOptions()
    metrics: Annotated[tuple[AnyMetric, ...], AsTuple] = ()
    """Each a type alone, such as `exact`, or a mapping with its options."""
    judges: Annotated[tuple[Judge, ...], AsTuple] = ()
    """Models that judge the answers after all have been generated."""
    gates: Annotated[tuple[Gate, ...], AsTuple, Role.OPERATIONAL] = ()
    """Conditions on metrics, and on drift. If a gate fails or cannot be decided, the run ends with exit code 4."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [metric.name or metric.type for metric in self.metrics]
        judges = [judge.name for judge in self.judges]
        if twice := sorted({name for name in names if [*names, *judges].count(name) > 1}):
            raise ValueError(
                f"metrics: two are named {twice[0]!r}; set `name` of one of them, since each needs its own column of scores"
            )
        if twice := sorted({name for name in judges if judges.count(name) > 1}):
            raise ValueError(f"judges: two are named {twice[0]!r}; rename one of them")
        on_metrics = [gate for gate in self.gates if gate.metric is not None]
        others = on_metrics or self.slices or self.cluster or self.reference
        if others and not (self.metrics or self.judges):
            raise ValueError("metrics is empty, so that the other keys have no effect")
        return self
