"""How likely the model finds a given text: log-likelihood, perplexity, bits per byte.

    perplexity      exp(-sum of log-probabilities / tokens)      of all rows: the sums are over all rows
    bits per byte   -sum of log-probabilities / (ln 2 x bytes)   likewise

(Jelinek et al. 1977; The Pile, Gao et al. 2020, section 3.1.) A text that is impossible for the model, and one whose
likelihood could not be computed, are not scored.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from batchgen.metrics.base import (
    Answer,
    Floats,
    MetricOptions,
    MetricType,
    Spec,
    unscored,
    without_reference,
)
from batchgen.metrics.likelihood_columns import TextLikelihood, text_likelihoods
from batchgen.metrics.references import References, text_cell
from batchgen.records import Score
from batchgen.section import Auto, NonEmptyText, PositiveInt, Section

_LEAST = -700.0
"""Nats a token. Less has no finite perplexity."""


class AfterPrompt(Section):
    """Options of a metric that scores texts by their likelihood after the prompt."""

    delimiter: str = ""
    """Put between prompt and text. Leave it empty with a chat template; after a plain prompt such as `Answer:` often a space."""


class TextAfterPrompt(AfterPrompt):
    """Options of a metric that scores one text."""

    column: NonEmptyText | None = None
    """Column with the text; `response` is the answer itself. Left out: the references, of which the most likely one counts."""
    stride: PositiveInt | Auto = "auto"
    """For a text that is longer than the model's context: it is scored in windows as long as the context, each of which ends
    this many tokens after the one before. Each token is scored once, after all earlier tokens of its window. auto: half the
    context. A smaller stride gives each token more context and takes longer."""


class LoglikelihoodOptions(MetricOptions, TextAfterPrompt):
    """Log-probability (natural) of a text after the row's prompt, as if the model had to write it; higher is likelier."""

    type: Literal["loglikelihood"] = "loglikelihood"
    per: Literal["text", "token"] = "text"
    """text: of the whole. token: the mean over its tokens, for texts of different lengths."""


class PerplexityOptions(MetricOptions, TextAfterPrompt):
    """exp of the mean negative log-probability of a text's tokens after the row's prompt; of all rows, over all their tokens."""

    type: Literal["perplexity"] = "perplexity"


class BitsPerByteOptions(MetricOptions, TextAfterPrompt):
    """Negative log2-probability of a text divided by its UTF-8 bytes: comparable between tokenizers; of all rows, over all their bytes."""

    type: Literal["bits_per_byte"] = "bits_per_byte"


class BestText(NamedTuple):
    """The most likely of an answer's texts."""

    text: str
    likelihood: TextLikelihood


Formula = Callable[[Floats, Floats], Floats]
"""From sums of log-probabilities and of sizes, float64 [...] each, to values; 0 log-probability where the size is 0."""


@dataclass(frozen=True, slots=True)
class LikelihoodMetric:
    """A value from a text's log-probability and its size."""

    spec: Spec
    options: TextAfterPrompt
    size: Callable[[BestText], float]
    formula: Formula

    @property
    def stride(self) -> int | Auto:
        return self.options.stride

    def continuations(self, answer: Answer) -> Sequence[str]:
        """The texts with the delimiter before each, without empty ones."""
        return tuple(self.options.delimiter + text for text in self._texts(answer).texts if text)

    def score(self, answer: Answer) -> Score:
        """The value of the text; the rule is `greedy` where greedy decoding would generate it."""
        best = self.best_text(answer)
        if isinstance(best, Score):
            return best
        logprob, size = np.array(best.likelihood.logprob), np.array(self.size(best))
        rule = "greedy" if best.likelihood.greedy else None
        return Score(self.spec.name, float(self.formula(logprob, size)), "ok", None, rule)

    def best_text(self, answer: Answer) -> BestText | Score:
        """The text to be scored, or the score of an answer that has none."""
        texts = self._texts(answer)
        wanted = [text for text in texts.texts if text]
        if not wanted:
            missing = without_reference(self.spec, readable=texts.readable)
            return unscored(self.spec, "empty") if texts.texts else missing
        known = text_likelihoods(answer, self.spec.name)
        if len(known) != len(wanted):
            return unscored(self.spec, "skipped")
        sound = [BestText(t, k) for t, k in zip(wanted, known, strict=True) if not k.failure]
        if not sound:
            return unscored(self.spec, "error", known[0].failure)
        best = max(sound, key=lambda one: one.likelihood.logprob)
        if best.likelihood.logprob <= _LEAST * best.likelihood.tokens:
            return unscored(self.spec, "error", "impossible")
        return best

    def _texts(self, answer: Answer) -> References:
        if self.options.column is None:
            return References(answer.references, readable=answer.readable)
        return text_cell(answer.fields.get(self.options.column))


@dataclass(frozen=True, slots=True)
class CorpusLikelihood(LikelihoodMetric):
    """The same; the value of a corpus is the formula of the sums over all rows."""

    @property
    def stats(self) -> tuple[str, ...]:
        return ("sum_logprob", "size")

    def row_stats(self, answer: Answer) -> tuple[float, ...] | None:
        best = self.best_text(answer)
        return None if isinstance(best, Score) else (best.likelihood.logprob, self.size(best))

    def finalize(self, sums: Floats) -> Floats:
        return self.formula(sums[..., 0], sums[..., 1])


def _tokens(best: BestText) -> float:
    return float(best.likelihood.tokens)


def _bytes(best: BestText) -> float:
    return float(len(best.text.encode("utf-8", "surrogatepass")))


def _ratio(total: Floats, size: Floats) -> Floats:
    ratio: Floats = np.divide(total, size, where=size > 0, out=np.zeros_like(total))
    return ratio


def _loglikelihood(spec: Spec, options: LoglikelihoodOptions) -> LikelihoodMetric:
    size = _tokens if options.per == "token" else lambda _: 1.0
    return LikelihoodMetric(spec, options, size, _ratio)


def _perplexity(total: Floats, tokens: Floats) -> Floats:
    return np.exp(-_ratio(total, tokens))


def _bits_per_byte(total: Floats, size: Floats) -> Floats:
    return _ratio(-total, size * math.log(2))


# These read a given text, not the response: rows without a response are scored as well.
LOGLIKELIHOOD = MetricType(LoglikelihoodOptions, _loglikelihood, needs="nothing", unit="score")
PERPLEXITY = MetricType(
    PerplexityOptions,
    lambda spec, options: CorpusLikelihood(spec, options, _tokens, _perplexity),
    needs="nothing",
    unit="score",
    higher_is_better=False,
)
BITS_PER_BYTE = MetricType(
    BitsPerByteOptions,
    lambda spec, options: CorpusLikelihood(spec, options, _bytes, _bits_per_byte),
    needs="nothing",
    unit="score",
    higher_is_better=False,
)
