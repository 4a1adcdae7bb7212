"""What a job may say about metrics that compare the response with something: references, texts, patterns."""

from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, Field

from batchgen.job.metric_section import MetricOptions
from batchgen.section import AsTuple, NonEmptyText, NonEmptyTexts


class ExactOptions(MetricOptions):
    """The response is one of the references, letter by letter; white space at the ends does not count."""

    type: Literal["exact"] = "exact"


class NormalizedMatchOptions(MetricOptions):
    """The response is one of the references but for case, width (NFKC), punctuation and spaces; `3.5` is not `35`."""

    type: Literal["normalized_match"] = "normalized_match"
    articles: Literal["keep", "drop"] = "keep"
    """drop: `a`, `an` and `the` do not count either, as in SQuAD."""


class ContainsOptions(MetricOptions):
    """The response holds certain texts, whatever their case and width."""

    type: Literal["contains"] = "contains"
    texts: Annotated[NonEmptyTexts, Field(min_length=1)] | None = None
    """What is looked for. Left out: the row's references."""
    mode: Literal["any", "all", "none"] = "any"
    """How many of them must be there."""
    boundaries: Literal["words", "none"] = "words"
    """words: `no` is not in `know`. none: any part of the text. Chinese has no such boundaries."""


def _compiled(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern


class RegexOptions(MetricOptions):
    """A pattern matches somewhere in the response."""

    type: Literal["regex"] = "regex"
    pattern: Annotated[NonEmptyText, AfterValidator(_compiled)]
    """In the dialect of the Python package `regex`, which is that of `re` and more; `(?i)` ignores case."""
    expect: Literal["match", "no_match"] = "match"
    """Which of the two counts as 1."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds for one response. A search that takes longer is stopped, and the row is not scored."""


def _distinct_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len({label.casefold() for label in labels}) < len(labels):
        raise ValueError("two labels are the same but for case")
    return labels


class ChoiceOptions(MetricOptions):
    """The label that the response gives, such as B, is the reference's.

    Takes the last statement such as `the answer is B` or `答案：B`, else a letter that stands alone, else the text of
    one option. Never just a capital letter.
    """

    type: Literal["choice"] = "choice"
    labels: Annotated[NonEmptyTexts, Field(min_length=2), AfterValidator(_distinct_labels)] = (
        "A",
        "B",
        "C",
        "D",
    )
    """What may be chosen."""
    options: NonEmptyText | None = None
    """Column with the texts of the options: a list in the order of the labels, a mapping by label, or JSON of either."""


class NumberOptions(MetricOptions):
    r"""The number that the response gives equals the reference's, exactly.

    Reads `$1,234.50`, `50%`, `1/2`, `½`, `１８`, `十八`, `3万5千`, `2.5 million`, `\boxed{18}`, `#### 18`; takes what
    is marked as the answer, else the last number. 50% equals 50 and 0.5.
    """

    type: Literal["number"] = "number"
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    """Largest difference that still counts as equal."""
    pick: Literal["last", "first"] = "last"
    """Which one, where several numbers are marked in the same way."""
    mark: Literal["any", "hash", "boxed"] = "any"
    r"""hash: only a number after `####`, the strict rule of GSM8K. boxed: only one in `\boxed{}`."""


class TokenF1Options(MetricOptions):
    """Harmonic mean of precision and recall of tokens, as multisets (SQuAD's F1); a Chinese character is a token."""

    type: Literal["token_f1"] = "token_f1"
    articles: Literal["keep", "drop"] = "keep"
    """drop: `a`, `an` and `the` are no tokens, as in SQuAD."""


class RougeOptions(MetricOptions):
    """F1 of n-grams (ROUGE-1, ROUGE-2) or of the longest common subsequence (ROUGE-L), without stemming."""

    type: Literal["rouge"] = "rouge"
    variants: Annotated[tuple[Literal["1", "2", "L"], ...], AsTuple, Field(min_length=1)] = (
        "1",
        "2",
        "L",
    )
    """Each is a metric: `rouge_1`, `rouge_2`, `rouge_L`."""


class ChrFOptions(MetricOptions):
    """F-score of groups of 1 to 6 characters: chrF2 of sacrebleu, from 0 to 100."""

    type: Literal["chrf"] = "chrf"


class BleuOptions(MetricOptions):
    """BLEU of sacrebleu, from 0 to 100; of all rows it is that of the corpus. Needs the extra `metrics`."""

    type: Literal["bleu"] = "bleu"
    tokenize: Literal["13a", "zh", "char", "intl", "none"] = "13a"
    """sacrebleu's tokenizer. zh: Chinese by characters."""


class EditDistanceOptions(MetricOptions):
    """Characters to insert, delete or replace until the response is the reference. Needs the extra `metrics`."""

    type: Literal["edit_distance"] = "edit_distance"


class CerOptions(MetricOptions):
    """Character error rate: edit distance by the reference's characters. Needs the extra `metrics`."""

    type: Literal["cer"] = "cer"
