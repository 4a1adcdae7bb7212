"""Whether the response is one of the references, contains certain texts, or matches a pattern."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, Field

from batchgen.metrics.base import (
    Answer,
    MetricOptions,
    MetricType,
    Spec,
    no_answer_found,
    scored,
    stored_form,
    unscored,
    without_reference,
)
from batchgen.metrics.text import contains_words, fold_case, normalize, normalize_without_articles
from batchgen.records import Score
from batchgen.section import NonEmptyText, NonEmptyTexts


class ExactOptions(MetricOptions):
    """The response is exactly one of the references; white space at the ends is ignored."""

    type: Literal["exact"] = "exact"


class NormalizedMatchOptions(MetricOptions):
    """The response is one of the references, ignoring case, width (NFKC), punctuation and spaces; `3.5` is not `35`."""

    type: Literal["normalized_match"] = "normalized_match"
    articles: Literal["keep", "drop"] = "keep"
    """drop: `a`, `an` and `the` are ignored as well. For figures comparable with SQuAD's see `squad_em`."""


@dataclass(frozen=True, slots=True)
class Match:
    """1 if the response is one of the references, both converted by `form`. An empty form is not an answer."""

    spec: Spec
    form: Callable[[str], str]

    def score(self, answer: Answer) -> Score:
        found = self.form(answer.text)
        if not found:
            return no_answer_found(self.spec, answer)
        right = any(found == self.form(reference) for reference in answer.references)
        return Score(self.spec.name, float(right), "ok", stored_form(found))


class ContainsOptions(MetricOptions):
    """The response contains certain texts, ignoring case and width."""

    type: Literal["contains"] = "contains"
    texts: Annotated[NonEmptyTexts, Field(min_length=1)] | None = None
    """The texts to look for. Left out: the row's references."""
    mode: Literal["any", "all", "none"] = "any"
    """How many of them must be there."""
    whole_words: bool = True
    """true: `no` is not in `know`. false: any part of the response. Chinese has no word boundaries."""


@dataclass(frozen=True, slots=True)
class Contains:
    """1 if any (all, none) of the texts are in the response, ignoring case and width."""

    spec: Spec
    options: ContainsOptions

    def score(self, answer: Answer) -> Score:
        """Score an answer. `answer` of the score is the first text that was found."""
        wanted = self.options.texts or _without_decimals(answer.references)
        if not wanted:
            return without_reference(self.spec, readable=answer.readable)
        text, mode = _spaced_once(answer.text), self.options.mode
        holds = contains_words if self.options.whole_words else str.__contains__
        found = [one for one in wanted if holds(text, _spaced_once(one))]
        right = {"any": bool(found), "all": len(found) == len(wanted), "none": not found}[mode]
        return scored(self.spec, right, answer, stored_form(found[0]) if found else None)


def _without_decimals(references: Sequence[str]) -> Sequence[str]:
    """Without `18.0` where `18` is there, which are two spellings of one reference."""
    return [one for one in references if one.removesuffix(".0") not in {*references} - {one}]


def _spaced_once(text: str) -> str:
    return " ".join(fold_case(text).split())


def _compiled(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return pattern


class RegexOptions(MetricOptions):
    """A pattern matches somewhere in the response."""

    type: Literal["regex"] = "regex"
    pattern: Annotated[NonEmptyText, AfterValidator(_compiled)]
    """A pattern of the Python package `regex`, which extends `re`; `(?i)` ignores case."""
    expect: Literal["match", "no_match"] = "match"
    """Which of the two counts as 1."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds for one response. A search that takes longer is stopped, and the row is not scored."""


@dataclass(frozen=True, slots=True)
class Matches:
    """1 if a pattern is found in the response, or is not. The package `regex` can stop a search; `re` cannot."""

    spec: Spec
    options: RegexOptions
    pattern: "regex.Pattern[str]"

    def score(self, answer: Answer) -> Score:
        """Score an answer. `answer` of the score is what the pattern matched."""
        try:
            found = self.pattern.search(answer.text, timeout=self.options.timeout)
        except TimeoutError:
            return unscored(self.spec, "error", "timeout")
        right = (found is not None) == (self.options.expect == "match")
        return scored(self.spec, right, answer, stored_form(found[0]) if found else None)


_FORMS: Mapping[str, Callable[[str], str]] = {"keep": normalize, "drop": normalize_without_articles}

EXACT = MetricType(ExactOptions, lambda spec, _: Match(spec, str.strip), needs="references")
NORMALIZED_MATCH = MetricType(
    NormalizedMatchOptions,
    lambda spec, options: Match(spec, _FORMS[options.articles]),
    needs="references",
)
CONTAINS = MetricType(ContainsOptions, Contains)
REGEX = MetricType(
    RegexOptions, lambda spec, options: Matches(spec, options, regex.compile(options.pattern))
)
