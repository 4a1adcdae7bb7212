"""chrF2 through sacrebleu: F-score of character n-grams (Popović 2015), from 0 to 100.

Precision and recall of n-grams of 1 to 6 characters, without white space, averaged over n; recall counts twice.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from batchgen.metrics.base import Answer, Floats, MetricOptions, MetricType, Spec, no_answer_found
from batchgen.metrics.optional import require_package
from batchgen.metrics.statistics.intervals import ValueRange
from batchgen.records import Score


class ChrFOptions(MetricOptions):
    """F-score of groups of 1 to 6 characters: chrF2 of sacrebleu, from 0 to 100. Needs the extra `metrics`."""

    type: Literal["chrf"] = "chrf"


@dataclass(frozen=True, slots=True)
class ChrF:
    """chrF2 of a row, and of a corpus from the sums of its rows' counts. `chrf` is sacrebleu's `CHRF`."""

    spec: Spec
    chrf: Any

    @property
    def stats(self) -> tuple[str, ...]:
        return tuple(
            f"{kind}_{n}" for n in range(1, 7) for kind in ("response", "reference", "common")
        )

    def score(self, answer: Answer) -> Score:
        if not answer.text.strip():
            return no_answer_found(self.spec, answer)
        return Score(self.spec.name, float(self.finalize(np.array(self.row_stats(answer)))), "ok")

    def row_stats(self, answer: Answer) -> tuple[float, ...]:
        """Counts against the reference that scores highest; sacrebleu has no public name for them."""
        references = [[reference] for reference in answer.references]
        (counts,) = self.chrf._extract_corpus_statistics([answer.text], references)
        return tuple(counts)

    def finalize(self, sums: Floats) -> Floats:
        """Convert sums [..., 18] to chrF2 [...]."""
        return np.apply_along_axis(lambda row: self.chrf._compute_f_score(row.tolist()), -1, sums)


def _chrf(spec: Spec, _options: ChrFOptions) -> ChrF:
    chrf = require_package("sacrebleu.metrics.chrf", "metrics").CHRF()
    return ChrF(replace(spec, signature="case:mixed|eff:yes|nc:6|nw:0|space:no"), chrf)


CHRF = MetricType(
    ChrFOptions, _chrf, needs="references", unit="score", value_range=ValueRange(0.0, 100.0)
)
