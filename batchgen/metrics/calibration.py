"""Whether the probabilities of labels mean what they say: Brier score and expected calibration error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from batchgen.metrics.base import (
    Answer,
    Floats,
    Metric,
    MetricOptions,
    MetricType,
    Spec,
    unscored,
)
from batchgen.metrics.statistics.intervals import ValueRange
from batchgen.records import Score
from batchgen.section import NonEmptyText


class CalibrationOptions(MetricOptions):
    """The probabilities of labels against the reference, two metrics: `calibration_brier`, the squared error over all labels (Brier 1950), from 0 to 2; `calibration_ece`, how far the probability of the most likely label is from how often it is right, in bins of that probability (Guo et al. 2017). Neither reads the response."""

    type: Literal["calibration"] = "calibration"
    probabilities: NonEmptyText = "choice_probabilities"
    """Column with the probabilities: a list of {label, probability}, as `output.choice_probabilities` writes it, with its prefix."""
    bins: Annotated[int, Field(ge=1, le=100)] = 10
    """Bins of equal width for `calibration_ece`; with few rows in each, its value is too large."""


class _Prediction(NamedTuple):
    """The labels' probabilities, and the place of the right one."""

    probabilities: Sequence[float]
    right: int

    @property
    def confidence(self) -> float:
        return min(1.0, max(self.probabilities))

    @property
    def hit(self) -> bool:
        """Whether the most likely label is right; the first of equally likely ones counts."""
        return self.probabilities.index(max(self.probabilities)) == self.right


def _prediction(answer: Answer, options: CalibrationOptions) -> _Prediction | str:
    """The prediction of a row, or why it cannot be scored."""
    cell = answer.fields.get(options.probabilities)
    entries = cell if isinstance(cell, list) else []
    known = {
        str(entry.get("label")): float(share)
        for entry in entries
        if isinstance(entry, Mapping) and isinstance(share := entry.get("probability"), int | float)
    }
    if not known or len(known) < len(entries):
        return "no_probabilities"
    right = {text.strip() for text in answer.references} & known.keys()
    if len(right) != 1:
        return "several_labels" if right else "not_a_label"
    return _Prediction(list(known.values()), list(known).index(right.pop()))


@dataclass(frozen=True, slots=True)
class Brier:
    """The sum of (probability - 1 if the label is right, else 0)^2 over all labels."""

    spec: Spec
    options: CalibrationOptions

    def score(self, answer: Answer) -> Score:
        found = _prediction(answer, self.options)
        if isinstance(found, str):
            return unscored(self.spec, "unparsed", found)
        errors = [p - (n == found.right) for n, p in enumerate(found.probabilities)]
        return Score(self.spec.name, min(2.0, sum(e * e for e in errors)), "ok")


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error: the mean over bins of |share of hits - mean confidence|, weighted by their rows.

    The value of one row is |hit - confidence|.
    """

    spec: Spec
    options: CalibrationOptions

    @property
    def stats(self) -> tuple[str, ...]:
        """For each bin its rows, then for each bin the sum of hit - confidence."""
        kinds, bins = ("rows", "surplus"), range(self.options.bins)
        return tuple(f"{kind}_{number}" for kind in kinds for number in bins)

    def score(self, answer: Answer) -> Score:
        found = _prediction(answer, self.options)
        if isinstance(found, str):
            return unscored(self.spec, "unparsed", found)
        return Score(self.spec.name, abs(found.hit - found.confidence), "ok")

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        found = _prediction(answer, self.options)
        if isinstance(found, str):
            return None
        bins = self.options.bins
        counts = np.zeros((2, bins))
        place = min(bins - 1, int(found.confidence * bins))
        counts[:, place] = 1, found.hit - found.confidence
        return tuple(counts.ravel().tolist())

    def finalize(self, sums: Floats) -> Floats:
        rows, surplus = np.split(sums, 2, axis=-1)
        with np.errstate(invalid="ignore"):
            error: Floats = np.abs(surplus).sum(axis=-1) / rows.sum(axis=-1)
        return error


def _calibration(spec: Spec, options: CalibrationOptions) -> tuple[Metric, ...]:
    brier = replace(spec.variant("brier"), unit="score", declared_range=ValueRange(0.0, 2.0))
    return Brier(brier, options), CalibrationError(spec.variant("ece"), options)


CALIBRATION = MetricType(
    CalibrationOptions, _calibration, needs="references", higher_is_better=False
)
