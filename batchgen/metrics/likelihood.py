"""How likely the model finds a text that is given: log-likelihood, perplexity, bits per byte.

    perplexity      exp(-sum of log-probabilities / tokens)      of all rows: the sums are over all rows
    bits per byte   -sum of log-probabilities / (ln 2 x bytes)   likewise

(Jelinek et al. 1977; The Pile, Gao et al. 2020, section 3.1.) A text that the model rules out altogether, and one that
could not be asked about, are not scored. Multiple choice is in `multiple_choice.py`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchgen.metrics.base import Answer, Floats, Spec, unscored
from batchgen.metrics.told import Told, told
from batchgen.records import Score

_LEAST = -700.0
"""Nats a token. Less has no finite perplexity."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Which text of an answer is meant.

    Attributes:
        column: the column with the text; empty for the references.
        delimiter: put between prompt and text.
    """

    column: str
    delimiter: str

    def texts(self, answer: Answer) -> tuple[str, ...]:
        """The text, or every reference, without delimiters."""
        if not self.column:
            return answer.references
        cell = answer.fields.get(self.column)
        return () if cell is None else (str(cell),)

    def after_prompt(self, answer: Answer) -> tuple[str, ...]:
        """What is asked about: texts with delimiters; nothing for an empty text."""
        return tuple(self.delimiter + text for text in self.texts(answer) if text)


@dataclass(frozen=True, slots=True)
class Found:
    """The most likely of an answer's texts, and what was told about it."""

    text: str
    told: Told


def find(spec: Spec, subject: Subject, answer: Answer) -> Found | Score:
    """The text to be scored, or the score of an answer that has none."""
    texts = subject.texts(answer)
    asked = [text for text in texts if text]
    if not asked:
        return unscored(spec, "empty" if texts else "no_reference")
    known = told(answer, spec.name)
    if len(known) != len(asked):
        return unscored(spec, "skipped")
    sound = [Found(t, k) for t, k in zip(asked, known, strict=True) if not k.failure]
    if not sound:
        return unscored(spec, "error", known[0].failure)
    best = max(sound, key=lambda one: one.told.logprob)
    if best.told.logprob <= _LEAST * best.told.tokens:
        return unscored(spec, "error", "impossible")
    return best


@dataclass(frozen=True, slots=True)
class Loglikelihood:
    """Log-probability of a text, whole or by token."""

    spec: Spec
    subject: Subject
    per: Literal["text", "token"]

    def continuations(self, answer: Answer) -> Sequence[str]:
        """See `ModelMetric`."""
        return self.subject.after_prompt(answer)

    def score(self, answer: Answer) -> Score:
        """The log-probability; `rule` says `greedy` where the model would write just this."""
        found = find(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return found
        size = found.told.tokens if self.per == "token" else 1
        return _scored(self.spec, found.told.logprob / size, found.told)


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-probability of tokens."""

    spec: Spec
    subject: Subject
    stats = ("sum_logprob", "tokens")

    def continuations(self, answer: Answer) -> Sequence[str]:
        """See `ModelMetric`."""
        return self.subject.after_prompt(answer)

    def score(self, answer: Answer) -> Score:
        """The perplexity of the text."""
        found = find(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return found
        value = math.exp(-found.told.logprob / found.told.tokens)
        return _scored(self.spec, value, found.told)

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """Sum of log-probabilities, and tokens."""
        found = find(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return None
        return found.told.logprob, float(found.told.tokens)

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 2] to perplexities [...]."""
        total, tokens = sums[..., 0], sums[..., 1]
        value: Floats = np.exp(
            -np.divide(total, tokens, where=tokens > 0, out=np.zeros_like(total))
        )
        return value


@dataclass(frozen=True, slots=True)
class BitsPerByte:
    """Negative log2-probability by UTF-8 bytes of the text, delimiter not counted."""

    spec: Spec
    subject: Subject
    stats = ("sum_logprob", "bytes")

    def continuations(self, answer: Answer) -> Sequence[str]:
        """See `ModelMetric`."""
        return self.subject.after_prompt(answer)

    def score(self, answer: Answer) -> Score:
        """The bits per byte of the text."""
        found = find(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return found
        value = -found.told.logprob / math.log(2) / _bytes(found.text)
        return _scored(self.spec, value, found.told)

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """Sum of log-probabilities, and bytes."""
        found = find(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return None
        return found.told.logprob, float(_bytes(found.text))

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 2] to bits per byte [...]."""
        total, size = sums[..., 0], sums[..., 1]
        value: Floats = np.divide(
            -total, size * math.log(2), where=size > 0, out=np.zeros_like(total)
        )
        return value


def _scored(spec: Spec, value: float, about: Told) -> Score:
    return Score(spec.name, value, "ok", None, "greedy" if about.greedy else None)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
