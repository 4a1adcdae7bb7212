"""BLEU through sacrebleu, from 0 to 100, with its signature: a corpus from the sums of its rows' counts.

A row's own value is sentence BLEU with effective order, for reading along; the corpus value is not its mean.
"""

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from batchgen.metrics.base import Answer, Floats, Spec, no_answer_found, unscored
from batchgen.metrics.packages import require_package
from batchgen.records import Score

BleuTokenizer = Literal["13a", "zh", "char", "intl", "none"]
"""Those of sacrebleu that are all in the package. The others fetch models."""

_ORDERS = 4


class Bleu:
    """BLEU of a row and of a corpus.

    Args:
        spec: of the metric.
        tokenize: sacrebleu's tokenizer; `zh` splits Chinese into characters.

    Raises:
        DataError: if sacrebleu is not installed.
    """

    def __init__(self, spec: Spec, tokenize: BleuTokenizer) -> None:
        bleu = require_package("sacrebleu.metrics.bleu", "metrics").BLEU
        self._bleu: Any = bleu(tokenize=tokenize, effective_order=True, force=True)
        corpus = bleu(tokenize=tokenize)
        corpus.num_refs = -1  # sacrebleu's mark for "as many as each row has"
        self.spec = replace(spec, signature=str(corpus.get_signature()))

    @property
    def stats(self) -> tuple[str, ...]:
        """Matching and all n-grams of 1 to 4 tokens, and the lengths of response and nearest reference."""
        matching = tuple(f"matching_{n}" for n in range(1, _ORDERS + 1))
        return (
            *matching,
            *(f"all_{n}" for n in range(1, _ORDERS + 1)),
            "response_length",
            "reference_length",
        )

    def score(self, answer: Answer) -> Score:
        """Sentence BLEU."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        if not answer.references:
            return unscored(self.spec, "no_reference")
        if not answer.response.strip():
            return no_answer_found(self.spec, answer)
        found = self._bleu.sentence_score(answer.response, list(answer.references))
        return Score(self.spec.name, float(found.score), "ok")

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """The ten counts of sacrebleu."""
        if answer.response is None or not answer.references:
            return None
        found = self._bleu.sentence_score(answer.response, list(answer.references))
        return (*found.counts, *found.totals, found.sys_len, found.ref_len)

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 10] to BLEU [...], as sacrebleu's `compute_bleu` with smoothing `exp`, but many at once."""
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
