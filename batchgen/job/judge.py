"""Each item of `evaluate.judges`: a model that rates answers or compares two of them."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from batchgen.job.model_section import ModelOrPath
from batchgen.metrics.base import MetricName
from batchgen.section import AsTuple, NonEmptyText, Section

TYPE = "judge"
"""The type of a judge's metrics, in files of scores."""
VERSION = 1
"""Raised whenever the same probabilities may get another value than before."""


def _two_ends(ends: tuple[int, ...]) -> tuple[int, ...]:
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise ValueError("scale must be the worst verdict and a greater best one, such as [1, 5]")
    return ends


class Judge(Section):
    """A model as judge. Scores are computed from the probability of each verdict; nothing is sampled.

    In addition to `name`, mode rubric measures `<name>_label_mass`, the probability that any verdict comes next. Mode
    pairwise measures the same over both orders, and `<name>_preference` (the mean probability of being better),
    `<name>_tie`, `<name>_position_flip` (the orders disagree), `<name>_first_position` (how often the answer that was
    shown first won).
    """

    name: MetricName
    """Scores are in the column `score_<name>`: letters, digits, underscore."""
    mode: Literal["rubric", "pairwise"] = "rubric"
    """rubric: rates the answer on a scale. pairwise: compares it with another answer in both orders; the score is 1 if it wins both, 0 if it wins neither, otherwise 0.5."""
    model: ModelOrPath | None = None
    """Path of the judge, or a mapping as under `model`. Left out: the job's own model; models tend to favour their own answers."""
    language: Literal["en", "zh"] = "en"
    """Language of the judge's prompt."""
    rubric: NonEmptyText | None = None
    """Text that describes a good answer. Left out: a general text about helpfulness and truth."""
    rubric_file: NonEmptyText | None = None
    """File with the rubric, relative to the job file."""
    scale: (
        Annotated[
            tuple[Annotated[int, Field(ge=0, le=10)], ...], AsTuple, AfterValidator(_two_ends)
        ]
        | None
    ) = None
    """Worst and best verdict of mode rubric, from 0 to 10. The score is the mean of the verdicts, weighted by probability. Left out: [1, 5]."""
    baseline: NonEmptyText | None = None
    """For mode pairwise: folder of another run, relative to the job file, whose answer to the same prompt (id and text) is compared."""
    column: NonEmptyText | None = None
    """For mode pairwise: column of the input with the other answer, instead of `baseline`."""
    reference: Literal["hide", "show"] = "hide"
    """show: the judge sees the first text of `evaluate.reference`, where the row has one."""
    primary: bool = False
    """Counts as a primary metric in `compare`."""
    where: NonEmptyText | None = None
    """SQL condition over the input columns: only these rows are judged."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.rubric is not None and not self.rubric.strip():
            raise ValueError("rubric is blank; leave it out to use the general one")
        if self.rubric is not None and self.rubric_file is not None:
            raise ValueError("rubric and rubric_file both define the rubric; use one")
        others = [key for key in ("baseline", "column") if getattr(self, key) is not None]
        if self.mode == "pairwise" and len(others) != 1:
            raise ValueError("mode: pairwise needs another answer; give baseline or column")
        if self.mode == "rubric" and others:
            raise ValueError(f"{others[0]} has no effect without mode: pairwise")
        if self.mode == "pairwise" and self.scale is not None:
            raise ValueError("scale has no effect with mode: pairwise")
        return self

    @property
    def verdicts(self) -> range:
        """The verdicts of mode rubric, worst first."""
        low, high = self.scale or (1, 5)
        return range(low, high + 1)

    @property
    def labels(self) -> tuple[str, ...]:
        """The possible verdicts, as the judge writes them. A and B: the answer shown first is better, or second."""
        return tuple(map(str, self.verdicts)) if self.mode == "rubric" else ("A", "B")
