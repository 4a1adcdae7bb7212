"""chrF2: F-score of character n-grams (Popović 2015), as sacrebleu computes it by default, from 0 to 100.

    precision and recall of n-grams of 1 to 6 characters, without white space, averaged over n;
    recall counts beta = 2 times

Characters are compared as they are: the signature is `nc:6|nw:0|space:no|case:mixed|eff:yes`.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from batchgen.metrics.base import Answer, Floats, Spec, no_answer_found, unscored
from batchgen.records import Score

SIGNATURE = "case:mixed|eff:yes|nc:6|nw:0|space:no"
_ORDERS = range(1, 7)
_BETA2 = 4.0


@dataclass(frozen=True, slots=True)
class ChrF:
    """chrF2 of a row, and of a corpus from the sums of its rows' counts."""

    spec: Spec

    @property
    def stats(self) -> tuple[str, ...]:
        """For n-grams of 1 to 6 characters: those of the response, of the reference, of both."""
        return tuple(f"{kind}_{n}" for n in _ORDERS for kind in ("response", "reference", "common"))

    def score(self, answer: Answer) -> Score:
        """chrF2 of one answer."""
        if answer.response is None:
            return unscored(self.spec, "skipped")
        sums = self.row_stats(answer)
        if sums is None:
            return unscored(self.spec, "no_reference")
        if not answer.response.strip():
            return no_answer_found(self.spec, answer)
        return Score(self.spec.name, _chrf(sums), "ok")

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """Counts against the reference that scores highest."""
        if answer.response is None or not answer.references:
            return None
        response = _ngrams(answer.response)
        counted = [_counts(response, _ngrams(reference)) for reference in answer.references]
        return max(counted, key=_chrf)

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 18] to chrF2 [...]."""
        counts = sums.reshape(*sums.shape[:-1], len(_ORDERS), 3)
        response, reference, common = counts[..., 0], counts[..., 1], counts[..., 2]
        counted = (response > 0) & (reference > 0)
        orders = np.maximum(counted.sum(axis=-1), 1)
        precision = _ratio(common, response, counted).sum(axis=-1) / orders
        recall = _ratio(common, reference, counted).sum(axis=-1) / orders
        below = _BETA2 * precision + recall
        return 100 * _ratio((1 + _BETA2) * precision * recall, below, below > 0)


def _ratio(above: Floats, below: Floats, where: np.typing.NDArray[np.bool_]) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=where)
    return ratio


def _chrf(counts: tuple[float, ...]) -> float:
    """chrF2 of the counts of one row; the same as `finalize`, which is slow for a single row."""
    precision = recall = 0.0
    orders = 0
    for at in range(0, len(counts), 3):
        response, reference, common = counts[at : at + 3]
        if response and reference:
            precision += common / response
            recall += common / reference
            orders += 1
    if not precision + recall:
        return 0.0
    precision, recall = precision / orders, recall / orders
    return 100 * (1 + _BETA2) * precision * recall / (_BETA2 * precision + recall)


def _ngrams(text: str) -> list[Counter[str]]:
    joined = "".join(text.split())
    return [Counter(joined[at : at + n] for at in range(len(joined) - n + 1)) for n in _ORDERS]


def _counts(response: list[Counter[str]], reference: list[Counter[str]]) -> tuple[float, ...]:
    counts: list[float] = []
    for ours, theirs in zip(response, reference, strict=True):
        common = sum(min(count, theirs[ngram]) for ngram, count in ours.items() if ngram in theirs)
        # Where a reference is too short for an order, sacrebleu does not count the response's n-grams either.
        counts += (ours.total() if theirs else 0, theirs.total(), common)
    return tuple(counts)
