"""What a metric is: four shapes, and what all of them see of an answer.

    RowMetric     one number per answer; the runner averages            exact, number, ROUGE
    SumMetric     the same, and a corpus value from sums over rows      BLEU, chrF
    GroupMetric   one number per prompt, from all its samples           pass@k, majority@k
    SetMetric     one number per set of answers                         distinct-n, near-duplicates

A metric is pure: the same answers give the same scores, whatever was scored before. It opens no connection, changes
nothing, and raises for no text whatever. Knows nothing of files, aggregates, slices or engines.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from batchgen.metrics.statistics.intervals import PointEstimate
from batchgen.records import FinishReason, Score, Status

Floats = npt.NDArray[np.float64]

Unit = Literal["fraction", "count", "score"]
"""fraction: from 0 to 1. count: of things, such as characters. score: any other number, such as BLEU."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a metric sees: one response and what belongs to it.

    Attributes:
        id: the row's id.
        sample: which of the row's answers, from 0.
        response: None for a row that failed or was skipped.
        references: the texts that would be right, any one of them; empty where the row has none.
        prompt: the contents of all messages, joined by line breaks; may be empty.
        fields: the input's columns.
        output_tokens: length of the response in tokens of the model; None where unknown.
        finish_reason: None where unknown, as in a file of foreign responses.
    """

    id: str
    sample: int
    response: str | None
    references: tuple[str, ...] = ()
    prompt: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    output_tokens: int | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """What a reader of a metric's numbers must know.

    Attributes:
        name: its name in this job: the `<metric>` of the column `score_<metric>`.
        type: which metric of the catalog it is.
        version: raised whenever the same text may get another value than before.
        higher_is_better: None where neither is, as with a length.
        signature: what else decides the values: sacrebleu's signature, the hash of a schema or a user's function.
    """

    name: str
    type: str
    version: int
    unit: Unit
    higher_is_better: bool | None
    signature: str = ""


class RowMetric(Protocol):
    """Scores one answer at a time."""

    @property
    def spec(self) -> Spec:
        """Name, unit and direction."""
        ...

    def score(self, answer: Answer) -> Score:
        """Score one answer; raises for no text."""
        ...


class SumMetric(RowMetric, Protocol):
    """Scores single answers, and a whole corpus from the sums of additive row statistics.

    The value of a corpus is not the mean of its rows' scores: only `finalize` of the sums is the published metric.
    """

    @property
    def stats(self) -> tuple[str, ...]:
        """Names of the k row statistics."""
        ...

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """The k statistics of one answer; None exactly where `score` has no value."""
        ...

    def finalize(self, sums: Floats) -> Floats:
        """Sums of row statistics, float64 [..., k], to values of the metric, float64 [...]."""
        ...


class GroupMetric(Protocol):
    """Scores a prompt by all of its samples.

    `of` names the row metric whose scores it reads; None if it reads the answers alone.
    """

    @property
    def spec(self) -> Spec:
        """Name, unit and direction."""
        ...

    @property
    def of(self) -> str | None:
        """Name of the row metric that `score_group` wants the scores of."""
        ...

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """Score the samples of one prompt, in order of `sample`.

        `scores` are those of the metric `of`, one per answer in the same order; empty if `of` is None.
        """
        ...


class SetMetric(Protocol):
    """Measures a whole set of answers; its value is no mean of anything."""

    @property
    def spec(self) -> Spec:
        """Name, unit and direction."""
        ...

    def compute(self, answers: Iterable[Answer], level: float) -> PointEstimate:
        """Measure the set in one pass over it, with an interval of this level, or the reason why there is none."""
        ...


Metric = RowMetric | SumMetric | GroupMetric | SetMetric


def unscored(spec: Spec, status: Status, rule: str | None = None) -> Score:
    """A score without a value: it lowers coverage and enters no mean."""
    return Score(spec.name, None, status, None, rule)


def no_answer_found(spec: Spec, answer: Answer, rule: str | None = None) -> Score:
    """0 for an answer in which there is nothing to compare, with the reason as status.

    A model that was asked for an answer and gave none is wrong: leaving such rows out would reward silence.
    """
    if not (answer.response or "").strip():
        return Score(spec.name, 0.0, "empty", None, rule)
    status: Status = "truncated" if answer.finish_reason == "length" else "no_answer"
    return Score(spec.name, 0.0, status, None, rule)


_LONGEST_ANSWER = 200
"""Characters."""


def stored_form(answer: str) -> str:
    """An extracted answer as it is stored: a long one is cut and told from others by a hash of all of it."""
    if len(answer) <= _LONGEST_ANSWER:
        return answer
    digest = blake2b(answer.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{answer[:_LONGEST_ANSWER]}… {digest}"
