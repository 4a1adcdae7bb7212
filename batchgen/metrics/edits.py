"""How many characters must change: edit distance and character error rate, through rapidfuzz.

Characters are compared in NFKC (full-width digits are digits) with white space runs as one space; case counts.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batchgen.metrics.base import Answer, Floats, Spec, unscored
from batchgen.metrics.packages import require_package
from batchgen.records import Score

Distance = Callable[[str, str], int]


def levenshtein() -> Distance:
    """The Levenshtein distance of two texts, in characters.

    Raises:
        DataError: if rapidfuzz is not installed.
    """
    distance: Distance = require_package("rapidfuzz.distance.Levenshtein", "metrics").distance
    return distance


@dataclass(frozen=True, slots=True)
class EditDistance:
    """Insertions, deletions and substitutions to the nearest reference, in characters."""

    spec: Spec
    distance: Distance

    def score(self, answer: Answer) -> Score:
        """The smallest distance."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        if not answer.references:
            return unscored(self.spec, "no_reference")
        text = _compared(answer.response)
        least = min(self.distance(text, _compared(r)) for r in answer.references)
        return Score(self.spec.name, float(least), "ok" if text else "empty")


@dataclass(frozen=True, slots=True)
class CharacterErrorRate:
    """Edits divided by the characters of the reference; of a corpus, all edits by all characters.

    Of several references the one with the lowest rate counts. Above 1 where the response is much longer.
    """

    spec: Spec
    distance: Distance

    @property
    def stats(self) -> tuple[str, ...]:
        """Edits, and characters of the reference."""
        return ("edits", "characters")

    def score(self, answer: Answer) -> Score:
        """The rate of one answer."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        if not answer.references:
            return unscored(self.spec, "no_reference")
        sums = self.row_stats(answer)
        if sums is None:
            return unscored(self.spec, "unparsed", "empty reference")
        return Score(
            self.spec.name, sums[0] / sums[1], "ok" if answer.response.strip() else "empty"
        )

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """Edits to the nearest reference, and its length."""
        if answer.response is None:
            return None
        text = _compared(answer.response)
        references = [form for form in map(_compared, answer.references) if form]
        rates = [(self.distance(text, form), len(form)) for form in references]
        return min(rates, key=lambda rate: rate[0] / rate[1], default=None)

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 2] to rates [...]."""
        with np.errstate(divide="ignore", invalid="ignore"):
            rates: Floats = sums[..., 0] / sums[..., 1]
        return rates


def _compared(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())
