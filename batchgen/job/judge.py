"""What a job may say about judges: models that say how good answers are, or which of two is better.

Knows nothing of prompts, tokens, or how a verdict becomes a number.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from batchgen.job.model_section import ModelOrPath
from batchgen.metrics.base import MetricName
from batchgen.section import AsTuple, NonEmptyText, Section

TYPE = "judge"
"""The type of a judge's metrics, in files of scores."""
VERSION = 1
"""Raised whenever the same probabilities may get another value than before."""
DEFAULT_SCALE = (1, 5)


def _two_ends(ends: tuple[int, ...]) -> tuple[int, ...]:
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise ValueError("expected the worst verdict and a greater best one, such as [1, 5]")
    return ends


class Judge(Section):
    """A model as judge, under `evaluate.judges`: scores are made of how likely it finds each verdict; nothing is sampled.

    Beside `name`, mode rubric measures `<name>_label_mass`, the probability that a verdict comes next at all. Mode pairwise
    measures that of both orders, and `<name>_preference` (the mean probability of being better), `<name>_tie`,
    `<name>_position_flip` (the orders disagree), `<name>_first_position` (how often the answer that was shown first won).
    """

    name: MetricName
    """Its scores are the column `score_<name>`: letters, digits, underscore."""
    mode: Literal["rubric", "pairwise"] = "rubric"
    """rubric: how good the answer is, on a scale. pairwise: whether it is better than another, asked in both orders: 1 if in both, 0 if in neither, else 0.5."""
    model: ModelOrPath | None = None
    """Path of the judge, or a mapping as under `model`. Left out: the job's own model, though models favour what they wrote themselves."""
    language: Literal["en", "zh"] = "en"
    """Of the judge's prompt."""
    rubric: NonEmptyText | None = None
    """What makes an answer good, in words. Left out: a general text about helpfulness and truth."""
    rubric_file: NonEmptyText | None = None
    """File with the rubric, relative to the job file."""
    scale: (
        Annotated[
            tuple[Annotated[int, Field(ge=0, le=10)], ...], AsTuple, AfterValidator(_two_ends)
        ]
        | None
    ) = None
    """Worst and best verdict of mode rubric, from 0 to 10. The score is the mean of all whole numbers between, by probability. Left out: [1, 5]."""
    against: NonEmptyText | None = None
    """Folder of another run, relative to the job file: its answer to the same prompt (id and text) is the other one of mode pairwise."""
    column: NonEmptyText | None = None
    """Column of the input with the other answer, instead of `against`."""
    reference: Literal["hide", "show"] = "hide"
    """show: the judge sees the first text of `evaluate.reference`, where the row has one."""
    primary: bool = False
    """Among the metrics that a comparison decides by."""
    where: NonEmptyText | None = None
    """SQL condition over the input columns: only these rows are judged."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.rubric is not None and not self.rubric.strip():
            raise ValueError("rubric is blank: leave it out for a general one")
        if self.rubric is not None and self.rubric_file is not None:
            raise ValueError("rubric and rubric_file both say what is good: keep one")
        others = [key for key in ("against", "column") if getattr(self, key) is not None]
        if self.mode == "pairwise" and len(others) != 1:
            raise ValueError("mode: pairwise compares with another answer: give against or column")
        if self.mode == "rubric" and others:
            raise ValueError(f"{others[0]} has no effect without mode: pairwise")
        if self.mode == "pairwise" and self.scale is not None:
            raise ValueError("scale has no effect with mode: pairwise")
        return self

    @property
    def verdicts(self) -> range:
        """The verdicts of mode rubric, worst first."""
        low, high = self.scale or DEFAULT_SCALE
        return range(low, high + 1)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the judge may say: the verdicts of the scale; or which of two answers is better, by the order shown."""
        return tuple(map(str, self.verdicts)) if self.mode == "rubric" else ("A", "B")
