"""What a metric is: its options, its four shapes, and the answer that it scores.

    RowMetric     one number per answer; the runner averages            exact, number, ROUGE
    SumMetric     the same, and a corpus value from sums over rows      BLEU, chrF
    GroupMetric   one number per prompt, from all its samples           pass@k, majority@k
    SetMetric     one number per set of answers                         distinct-n, near-duplicates

A metric is pure: the same answers give the same scores in any order. It opens no connection and raises for no text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Annotated, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from batchgen.metrics.statistics.intervals import FRACTION, PointEstimate, ValueRange
from batchgen.records import FinishReason, Score, Status
from batchgen.section import NonEmptyText, Section

Floats = npt.NDArray[np.float64]

Unit = Literal["fraction", "count", "score"]
"""fraction: from 0 to 1. count: of things, such as characters. score: any other number, such as BLEU."""

Need = Literal["nothing", "response", "references"]
"""What an answer must have to be scored. Without a response the status of the score is `skipped`; `references` needs both."""

MetricName = Annotated[str, Field(pattern=r"^\w+$", max_length=60)]


class MetricOptions(Section):
    """The options that every metric has."""

    type: str
    """Which metric: see `batchgen metrics`."""
    name: MetricName | None = None
    """Its scores are the column `score_<name>`: letters, digits, underscore. Left out: the type."""
    primary: bool = False
    """A primary metric in comparisons: the p-values of primary metrics are corrected for their number (Holm)."""
    where: NonEmptyText | None = None
    """SQL condition over the columns: only these rows are scored."""
    field: NonEmptyText | None = None
    """Path of the value to score in place of the response, such as `parsed.label`. Where it is null, the response counts as empty."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, with the columns and facts that a metric may use.

    Attributes:
        sample: number of the answer among those of its row, from 0.
        response: None for a row that failed or was skipped.
        references: the accepted texts; empty where the row has none.
        integer_references: those whose cells are whole numbers rather than text.
        unanswerable: true where the list of references is there and empty, as in SQuAD 2.0.
        readable: false where the cell of a reference is in no form that batchgen reads; it has no references then.
        prompt: the contents of all messages, joined by line breaks; may be empty.
        fields: the input's columns.
        output_tokens: length of the response in tokens of the model; None where unknown.
        finish_reason: None where unknown, as in a file of foreign responses.
    """

    id: str
    sample: int
    response: str | None
    references: tuple[str, ...] = ()
    integer_references: frozenset[str] = frozenset()
    unanswerable: bool = False
    readable: bool = True
    prompt: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    output_tokens: int | None = None
    finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        """The response; empty where there is none."""
        return self.response or ""


@dataclass(frozen=True, slots=True)
class Spec:
    """How to read the numbers of a metric, and what it needs.

    Attributes:
        name: the `<metric>` of the column `score_<metric>`.
        version: raised whenever the same text may get another value than before.
        higher_is_better: None where neither is, as with a length.
        signature: what else decides the values: sacrebleu's signature, the hash of a schema or a user's function.
        needs: a group or set metric gets every answer.
        declared_range: of values that are not a fraction; None where they have no limits.
    """

    name: str
    type: str
    version: int
    unit: Unit
    higher_is_better: bool | None
    signature: str = ""
    needs: Need = "response"
    declared_range: ValueRange | None = None

    @property
    def value_range(self) -> ValueRange | None:
        """The smallest and the largest possible value; None where there is no such limit."""
        return FRACTION if self.unit == "fraction" else self.declared_range

    def variant(self, name: str) -> "Spec":
        """The spec of one of several metrics that one entry of the job makes."""
        return replace(self, name=f"{self.name}_{name}")


class _Named(Protocol):
    @property
    def spec(self) -> Spec: ...


class RowMetric(_Named, Protocol):
    """Scores one answer at a time."""

    def score(self, answer: Answer) -> Score:
        """Score one answer, which has what the spec `needs`."""
        ...


class SumMetric(RowMetric, Protocol):
    """Scores single answers, and a corpus from the sums of row statistics, not from the mean of scores."""

    @property
    def stats(self) -> tuple[str, ...]:
        """Names of the k row statistics."""
        ...

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """The k statistics of one answer; None exactly where `score` has no value."""
        ...

    def finalize(self, sums: Floats) -> Floats:
        """Convert sums of row statistics, float64 [..., k], to values, float64 [...]."""
        ...


class SumRatio:
    """The part of a `SumMetric` whose value is the sum of the first of two statistics divided by that of the second."""

    __slots__ = ()

    def finalize(self, sums: Floats) -> Floats:
        """Convert sums [..., 2] to ratios [...]; not a number where both are 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sums[..., 0] / sums[..., 1])


class GroupMetric(_Named, Protocol):
    """Scores a prompt by all of its samples."""

    @property
    def of(self) -> str | None:
        """Name of the row metric whose scores `score_group` gets; None if it reads the answers alone."""
        ...

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """Score the samples of one prompt, in order of `sample`.

        `scores` are those of the metric `of`, one per answer in the same order; empty if `of` is None.
        """
        ...


class SetMetric(_Named, Protocol):
    """Measures a whole set of answers; its value is not a mean over rows."""

    def compute(self, answers: Iterable[Answer], level: float) -> PointEstimate:
        """Measure the set in one pass over it, with an interval of this level, or the reason why there is none."""
        ...


Metric = RowMetric | SumMetric | GroupMetric | SetMetric

Options = TypeVar("Options", bound=MetricOptions)


@dataclass(frozen=True, slots=True)
class MetricType(Generic[Options]):
    """The definition of a type of metric. `registry.py` lists them all.

    Attributes:
        options: what a job may set; the docstring describes what is measured.
        make: makes one metric or several, such as one per variant of `rouge`. It raises `DataError` if a file cannot
            be read or a package is not installed.
        value_range: of a unit other than fraction; None where the values have no limits.
    """

    options: type[Options]
    make: Callable[[Spec, Options], Metric | tuple[Metric, ...]]
    needs: Need = "response"
    unit: Unit = "fraction"
    higher_is_better: bool | None = True
    version: int = 1
    value_range: ValueRange | None = None

    @property
    def word(self) -> str:
        """The value of `type` in a job."""
        return str(self.options.model_fields["type"].default)

    def metrics(self, options: Options) -> tuple[Metric, ...]:
        """The metrics of one entry of `evaluate.metrics`."""
        name, word = options.name or self.word, self.word
        spec = Spec(
            name,
            word,
            self.version,
            self.unit,
            self.higher_is_better,
            needs=self.needs,
            declared_range=self.value_range,
        )
        made = self.make(spec, options)
        return made if isinstance(made, tuple) else (made,)


def score_answer(metric: RowMetric, answer: Answer) -> Score:
    """Score one answer, or state that it lacks what the metric needs."""
    if metric.spec.needs != "nothing" and answer.response is None:
        return unscored(metric.spec, "skipped")
    if metric.spec.needs == "references" and not answer.references:
        return without_reference(metric.spec, readable=answer.readable)
    return metric.score(answer)


def without_reference(spec: Spec, *, readable: bool) -> Score:
    """The score of a row without references: none is there, or its cell cannot be read."""
    if readable:
        return unscored(spec, "no_reference")
    return unscored(spec, "unparsed", "reference")


def unscored(spec: Spec, status: Status, rule: str | None = None) -> Score:
    """A score without a value: it lowers coverage and enters no mean."""
    return Score(spec.name, None, status, None, rule)


def scored(spec: Spec, value: float, answer: Answer, found: str | None = None) -> Score:
    """A score with a value; its status is `empty` for a blank response, else `ok`."""
    return Score(spec.name, float(value), "ok" if answer.text.strip() else "empty", found)


def no_answer_found(spec: Spec, answer: Answer, rule: str | None = None) -> Score:
    """0 for a response in which there is nothing to compare, with the reason as status.

    A missing answer counts as wrong: leaving such rows out would reward silence.
    """
    if not answer.text.strip():
        return Score(spec.name, 0.0, "empty", None, rule)
    status: Status = "truncated" if answer.finish_reason == "length" else "no_answer"
    return Score(spec.name, 0.0, status, None, rule)


def stored_form(answer: str) -> str:
    """An extracted answer as it is stored: cut to 200 characters, with a hash of the text that keeps it distinct."""
    if len(answer) <= 200:
        return answer
    digest = blake2b(answer.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{answer[:200]}… {digest}"
