"""How many characters must change: edit distance and character error rate, through rapidfuzz.

Characters are compared in NFKC (full-width digits are digits) with white space runs as one space; case counts.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.base import (
    Answer,
    MetricOptions,
    MetricType,
    Spec,
    SumRatio,
    scored,
    unscored,
)
from batchgen.metrics.optional import require_package
from batchgen.records import Score

Distance = Callable[[str, str], int]


class EditDistanceOptions(MetricOptions):
    """Characters to insert, delete or replace to turn the response into the reference. Needs the extra `metrics`."""

    type: Literal["edit_distance"] = "edit_distance"


class CerOptions(MetricOptions):
    """Character error rate: edit distance divided by the reference's characters. Needs the extra `metrics`."""

    type: Literal["cer"] = "cer"


@dataclass(frozen=True, slots=True)
class EditDistance:
    """Insertions, deletions and substitutions to the nearest reference, in characters."""

    spec: Spec
    distance: Distance

    def score(self, answer: Answer) -> Score:
        text = _compared(answer.text)
        least = min(self.distance(text, _compared(r)) for r in answer.references)
        return scored(self.spec, least, answer)


@dataclass(frozen=True, slots=True)
class CharacterErrorRate(SumRatio):
    """Edits divided by the characters of the reference; of a corpus, all edits by all characters.

    Of several references the one with the lowest rate counts. Above 1 where the response is much longer.
    """

    spec: Spec
    distance: Distance

    @property
    def stats(self) -> tuple[str, ...]:
        return ("edits", "characters")

    def score(self, answer: Answer) -> Score:
        counts = self.row_stats(answer)
        if counts is None:
            return unscored(self.spec, "unparsed", "empty reference")
        return scored(self.spec, counts[0] / counts[1], answer)

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """Edits to the nearest reference, and its length."""
        text = _compared(answer.text)
        references = [form for form in map(_compared, answer.references) if form]
        rates = [(self.distance(text, form), len(form)) for form in references]
        return min(rates, key=lambda rate: rate[0] / rate[1], default=None)


def _compared(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _levenshtein() -> Distance:
    distance: Distance = require_package("rapidfuzz.distance.Levenshtein", "metrics").distance
    return distance


EDIT_DISTANCE = MetricType(
    EditDistanceOptions,
    lambda spec, _: EditDistance(spec, _levenshtein()),
    needs="references",
    unit="count",
    higher_is_better=False,
)
CER = MetricType(
    CerOptions,
    lambda spec, _: CharacterErrorRate(spec, _levenshtein()),
    needs="references",
    unit="score",
    higher_is_better=False,
)
