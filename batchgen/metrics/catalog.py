"""Every metric there is: its type, what a job may say about it, and how one is made of that.

To add a metric: a section in `job/metric_options.py`, a file here, an entry below.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Generic, TypeVar

import regex

from batchgen.job import metric_options as options
from batchgen.job.metric_options import MetricOptions
from batchgen.metrics import length, overlap, texts
from batchgen.metrics.base import Metric, Spec, Unit
from batchgen.metrics.choice import Choice
from batchgen.metrics.choice_rules import Labels
from batchgen.metrics.contains import Contains, Matches
from batchgen.metrics.match import Match
from batchgen.metrics.number.metric import NumberMatch

Options = TypeVar("Options", bound=MetricOptions)


@dataclass(frozen=True, slots=True)
class Entry(Generic[Options]):
    """A type of metric.

    Attributes:
        options: what a job may say; its docstring says what is measured.
        make: a spec with the job's name, and the options, to metrics; most types make one, `rouge` one per variant.
        version: raised whenever the same text may get another value than before.
        unit: of its values.
        higher_is_better: None where neither is.
    """

    options: type[Options]
    make: Callable[[Spec, Options], tuple[Metric, ...]]
    unit: Unit = "fraction"
    higher_is_better: bool | None = True
    version: int = 1

    @property
    def type(self) -> str:
        """The word in the job."""
        word: str = self.options.model_fields["type"].default
        return word


def make_metrics(asked: MetricOptions) -> tuple[Metric, ...]:
    """The metrics that an entry of `evaluate.metrics` asks for.

    Raises:
        DataError: if a file that it names cannot be read, or a package that it needs is not installed.
    """
    entry = CATALOG[asked.type]
    name = asked.name or asked.type
    spec = Spec(name, asked.type, entry.version, entry.unit, entry.higher_is_better)
    return entry.make(spec, asked)


def _variant(spec: Spec, name: str) -> Spec:
    return replace(spec, name=f"{spec.name}_{name}")


def _exact(spec: Spec, _asked: options.ExactOptions) -> tuple[Metric, ...]:
    return (Match(spec, str.strip),)


def _normalized_match(spec: Spec, asked: options.NormalizedMatchOptions) -> tuple[Metric, ...]:
    keeps = asked.articles == "keep"
    return (Match(spec, texts.normalized if keeps else texts.normalized_without_articles),)


def _contains(spec: Spec, asked: options.ContainsOptions) -> tuple[Metric, ...]:
    return (Contains(spec, asked.texts or (), asked.mode, asked.boundaries),)


def _regex(spec: Spec, asked: options.RegexOptions) -> tuple[Metric, ...]:
    return (Matches(spec, regex.compile(asked.pattern), asked.expect, asked.timeout),)


def _choice(spec: Spec, asked: options.ChoiceOptions) -> tuple[Metric, ...]:
    return (Choice(spec, Labels(asked.labels), asked.options or ""),)


def _number(spec: Spec, asked: options.NumberOptions) -> tuple[Metric, ...]:
    # Through its decimal form: 0.1 is meant as a tenth.
    return (NumberMatch(spec, Fraction(str(asked.tolerance)), asked.pick),)


def _token_f1(spec: Spec, asked: options.TokenF1Options) -> tuple[Metric, ...]:
    keeps = asked.articles == "keep"
    tokenize = texts.tokens if keeps else overlap.tokens_without_articles
    return (overlap.Overlap(spec, overlap.unigram_f1, tokenize),)


_ROUGE = {"1": overlap.unigram_f1, "2": overlap.bigram_f1, "L": overlap.lcs_f1}


def _rouge(spec: Spec, asked: options.RougeOptions) -> tuple[Metric, ...]:
    return tuple(overlap.Overlap(_variant(spec, v), _ROUGE[v]) for v in asked.variants)


_COUNTS = {
    "characters": length.count_characters,
    "words": length.count_words,
    "sentences": length.count_sentences,
}


def _length(spec: Spec, asked: options.LengthOptions) -> tuple[Metric, ...]:
    return tuple(
        length.TokenLength(_variant(spec, unit))
        if unit == "tokens"
        else length.Length(_variant(spec, unit), _COUNTS[unit])
        for unit in asked.units
    )


_ENTRIES: tuple[Entry[Any], ...] = (
    Entry(options.ExactOptions, _exact),
    Entry(options.NormalizedMatchOptions, _normalized_match),
    Entry(options.ContainsOptions, _contains),
    Entry(options.RegexOptions, _regex),
    Entry(options.ChoiceOptions, _choice),
    Entry(options.NumberOptions, _number),
    Entry(options.TokenF1Options, _token_f1),
    Entry(options.RougeOptions, _rouge),
    Entry(options.LengthOptions, _length, unit="count", higher_is_better=None),
)

CATALOG: Mapping[str, Entry[Any]] = {entry.type: entry for entry in _ENTRIES}
"""All types of metrics, by name."""
