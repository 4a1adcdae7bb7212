"""Whether the response repeats itself: loops at the end, repeated lines, repeated word n-grams.

Thresholds are those of MassiveText for documents (Rae et al. 2021, "Scaling Language Models", table A1); two Chinese
characters count as a word.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, unscored
from batchgen.metrics.text import is_unspaced, split_tokens
from batchgen.records import Score

_LEAST_TOKENS = 24
"""Shorter texts repeat by chance."""
_LEAST_LINES = 4
_LINES = 0.30
_TOP_NGRAM = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
_LOOP_ROUNDS = 3
_LOOP_TOKENS = 18


class RepetitionOptions(MetricOptions):
    """The response repeats itself: a loop at its end, or more repeated lines or word groups than normal text has."""

    type: Literal["repetition"] = "repetition"


@dataclass(frozen=True, slots=True)
class Repetition:
    """1 if the response repeats itself. An empty response is not scored."""

    spec: Spec

    def score(self, answer: Answer) -> Score:
        """Score an answer; the rule names what is repeated."""
        if not answer.text.strip():
            return unscored(self.spec, "empty")
        rule = next(_signs(answer.text), None)
        return Score(self.spec.name, float(rule is not None), "ok", None, rule)


def _signs(text: str) -> Iterator[str]:
    found = split_tokens(text)
    if len(found) >= _LEAST_TOKENS:
        if ends_in_a_loop(found):
            yield "loop"
        if _share_of_repeated_lines(text) > _LINES:
            yield "lines"
        per_word = 2 if sum(map(is_unspaced, found)) > len(found) / 2 else 1
        for n, most in _TOP_NGRAM.items():
            if _share_of_top_ngram(found, n * per_word) > most:
                yield f"top_{n}_gram"
        for n, most in _REPEATED_NGRAMS.items():
            if _share_of_repeated_ngrams(found, n * per_word) > most:
                yield f"repeated_{n}_grams"


def ends_in_a_loop(found: Sequence[str]) -> bool:
    """Whether the text ends in three or more repeats of the same tokens, of 18 tokens or more together.

    Periods are found by the failure function of Knuth, Morris and Pratt on the reversed tokens.
    """
    backwards = found[::-1]
    borders = [0] * len(backwards)
    border = 0
    for at in range(1, len(backwards)):
        while border and backwards[at] != backwards[border]:
            border = borders[border - 1]
        border += backwards[at] == backwards[border]
        borders[at] = border
        length = at + 1
        period = length - border
        if length >= max(_LOOP_TOKENS, _LOOP_ROUNDS * period):
            return True
    return False


def _share_of_repeated_lines(text: str) -> float:
    lines = [line.strip() for line in text.splitlines() if any(c.isalnum() for c in line)]
    if len(lines) < _LEAST_LINES:
        return 0.0
    return (len(lines) - len(set(lines))) / len(lines)


def _share_of_top_ngram(found: Sequence[str], n: int) -> float:
    """Characters in occurrences of the most frequent n-gram, divided by all characters."""
    grams = Counter(_ngrams(found, n))
    gram, count = max(grams.items(), key=lambda item: item[1] * _size(item[0]), default=((), 0))
    return count * _size(gram) / _size(found) if count > _LOOP_ROUNDS else 0.0


def _share_of_repeated_ngrams(found: Sequence[str], n: int) -> float:
    """Characters in tokens that belong to a second or later occurrence of an n-gram, divided by all characters."""
    seen: set[tuple[str, ...]] = set()
    repeated = bytearray(len(found))
    for at, gram in enumerate(_ngrams(found, n)):
        if gram in seen:
            repeated[at : at + n] = b"\1" * n
        seen.add(gram)
    return sum(len(t) for t, again in zip(found, repeated, strict=True) if again) / _size(found)


def _ngrams(found: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(found[at:] for at in range(n)), strict=False)


def _size(found: Sequence[str]) -> int:
    return sum(map(len, found))


REPETITION = MetricType(RepetitionOptions, lambda spec, _: Repetition(spec), higher_is_better=False)
