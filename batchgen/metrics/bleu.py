"""BLEU through sacrebleu, from 0 to 100, with its signature: a corpus from the sums of its rows' counts.

A row's own value is sentence BLEU with effective order, for reading along; the corpus value is not its mean.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from batchgen.metrics.base import Answer, Floats, MetricOptions, MetricType, Spec, no_answer_found
from batchgen.metrics.optional import require_package
from batchgen.metrics.statistics.intervals import ValueRange
from batchgen.records import Score

_ORDERS = 4


class BleuOptions(MetricOptions):
    """BLEU of sacrebleu, from 0 to 100; over all rows it is corpus BLEU. Needs the extra `metrics`."""

    type: Literal["bleu"] = "bleu"
    # All of these are in the package; sacrebleu's other tokenizers download models.
    tokenize: Literal["13a", "zh", "char", "intl", "none"] = "13a"
    """sacrebleu's tokenizer. zh: Chinese by characters."""


@dataclass(frozen=True, slots=True)
class Bleu:
    """BLEU of a row and of a corpus. `bleu` is sacrebleu's, with effective order."""

    spec: Spec
    bleu: Any

    @property
    def stats(self) -> tuple[str, ...]:
        orders = range(1, _ORDERS + 1)
        counts = [f"{kind}_{n}" for kind in ("matching", "all") for n in orders]
        return (*counts, "response_length", "reference_length")

    def score(self, answer: Answer) -> Score:
        if not answer.text.strip():
            return no_answer_found(self.spec, answer)
        return Score(self.spec.name, float(self._sentence(answer).score), "ok")

    def row_stats(self, answer: Answer) -> tuple[float, ...]:
        found = self._sentence(answer)
        return (*found.counts, *found.totals, found.sys_len, found.ref_len)

    def _sentence(self, answer: Answer) -> Any:  # noqa: ANN401 - a score of sacrebleu
        return self.bleu.sentence_score(answer.text, list(answer.references))

    def finalize(self, sums: Floats) -> Floats:
        """Convert sums [..., 10] to BLEU [...], as sacrebleu's `compute_bleu` with smoothing `exp`, but many at once."""
        matching, every = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
        ours, theirs = sums[..., -2], sums[..., -1]
        defined = (every > 0).all(axis=-1) & (matching > 0).any(axis=-1)
        every, ours = np.maximum(every, 1), np.maximum(ours, 1)
        # The k-th order without a match counts as a match of 1 / 2^k (NIST's mteval).
        halvings = np.cumsum(matching == 0, axis=-1)
        precisions = np.where(matching == 0, 0.5**halvings, matching) / every
        penalty = np.exp(np.minimum(0, 1 - theirs / ours))
        bleu: Floats = 100 * penalty * np.exp(np.log(precisions).mean(axis=-1))
        return np.where(defined, bleu, 0.0)


def _bleu(spec: Spec, options: BleuOptions) -> Bleu:
    bleu = require_package("sacrebleu.metrics.bleu", "metrics").BLEU
    corpus = bleu(tokenize=options.tokenize)
    corpus.num_refs = -1  # sacrebleu's mark for "as many as each row has"
    signed = replace(spec, signature=str(corpus.get_signature()))
    return Bleu(signed, bleu(tokenize=options.tokenize, effective_order=True, force=True))


BLEU = MetricType(
    BleuOptions, _bleu, needs="references", unit="score", value_range=ValueRange(0.0, 100.0)
)
