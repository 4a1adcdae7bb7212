"""How likely the model finds a text that is given: log-likelihood, perplexity, bits per byte.

    perplexity      exp(-sum of log-probabilities / tokens)      of all rows: the sums are over all rows
    bits per byte   -sum of log-probabilities / (ln 2 x bytes)   likewise

(Jelinek et al. 1977; The Pile, Gao et al. 2020, section 3.1.) A text that the model rules out altogether, and one that
could not be asked about, are not scored. Multiple choice is in `multiple_choice.py`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from batchgen.metrics.base import Answer, Floats, Spec, unscored
from batchgen.metrics.told import TextLikelihood, text_likelihoods
from batchgen.records import Score

_LEAST = -700.0
"""Nats a token. Less has no finite perplexity."""


@dataclass(frozen=True, slots=True)
class TextSelector:
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
class BestText:
    """The most likely of an answer's texts, and what was told about it."""

    text: str
    told: TextLikelihood


def find_best_text(spec: Spec, subject: TextSelector, answer: Answer) -> BestText | Score:
    """The text to be scored, or the score of an answer that has none."""
    texts = subject.texts(answer)
    asked = [text for text in texts if text]
    if not asked:
        return unscored(spec, "empty" if texts else "no_reference")
    known = text_likelihoods(answer, spec.name)
    if len(known) != len(asked):
        return unscored(spec, "skipped")
    sound = [BestText(t, k) for t, k in zip(asked, known, strict=True) if not k.failure]
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
    subject: TextSelector
    per: Literal["text", "token"]

    def continuations(self, answer: Answer) -> Sequence[str]:
        """See `ModelMetric`."""
        return self.subject.after_prompt(answer)

    def score(self, answer: Answer) -> Score:
        """The log-probability; `rule` says `greedy` where the model would write just this."""
        found = find_best_text(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return found
        size = found.told.tokens if self.per == "token" else 1
        return _scored(self.spec, found.told.logprob / size, found.told)


Formula = Callable[[Floats, Floats], Floats]
"""Sums of log-probabilities and of sizes, float64 [...] each, to values; with a size of 0, to what no text says."""


@dataclass(frozen=True, slots=True)
class LogprobRate:
    """A value of a text's log-probability and its size, and of a corpus by the sums of both."""

    spec: Spec
    subject: TextSelector
    size_name: str
    size: Callable[[BestText], float]
    formula: Formula

    @property
    def stats(self) -> tuple[str, ...]:
        """See `SumMetric`."""
        return ("sum_logprob", self.size_name)

    def continuations(self, answer: Answer) -> Sequence[str]:
        """See `ModelMetric`."""
        return self.subject.after_prompt(answer)

    def score(self, answer: Answer) -> Score:
        """The value of the text."""
        found = find_best_text(self.spec, self.subject, answer)
        if isinstance(found, Score):
            return found
        return _scored(self.spec, float(self.finalize(np.array(self._sums(found)))), found.told)

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        """Sum of log-probabilities, and size."""
        found = find_best_text(self.spec, self.subject, answer)
        return None if isinstance(found, Score) else self._sums(found)

    def finalize(self, sums: Floats) -> Floats:
        """Sums [..., 2] to values [...]."""
        return self.formula(sums[..., 0], sums[..., 1])

    def _sums(self, found: BestText) -> tuple[float, float]:
        return found.told.logprob, self.size(found)


def perplexity(spec: Spec, subject: TextSelector) -> LogprobRate:
    """Exp of the mean negative log-probability of tokens."""
    return LogprobRate(
        spec,
        subject,
        "tokens",
        lambda found: float(found.told.tokens),
        lambda total, tokens: np.exp(-_ratio(total, tokens)),
    )


def bits_per_byte(spec: Spec, subject: TextSelector) -> LogprobRate:
    """Negative log2-probability by UTF-8 bytes of the text, delimiter not counted."""
    return LogprobRate(
        spec,
        subject,
        "bytes",
        lambda found: float(len(found.text.encode("utf-8", "surrogatepass"))),
        lambda total, size: _ratio(-total, size * math.log(2)),
    )


def _ratio(total: Floats, size: Floats) -> Floats:
    ratio: Floats = np.divide(total, size, where=size > 0, out=np.zeros_like(total))
    return ratio


def _scored(spec: Spec, value: float, about: TextLikelihood) -> Score:
    return Score(spec.name, value, "ok", None, "greedy" if about.greedy else None)
