"""What a job may say about each metric under `evaluate.metrics`: one section per type.

`metrics/catalog.py` makes metrics of them. Knows nothing of what a metric computes.
"""

from typing import Annotated, Literal

from pydantic import Field

from batchgen.job.section import AsTuple, Section, Text

Name = Annotated[str, Field(pattern=r"^\w+$", max_length=60)]


class MetricOptions(Section):
    """What every metric of a job has."""

    type: str
    """Which metric: see `batchgen metrics`."""
    name: Name | None = None
    """Its scores are the column `score_<name>`: letters, digits, underscore. Left out: the type."""
    primary: bool = False
    """Among the metrics that a comparison decides by; their p-values are corrected for their number."""
    where: Text | None = None
    """SQL condition over the input columns: only these rows are scored."""


class ExactOptions(MetricOptions):
    """The response is one of the references, letter by letter; white space at the ends does not count."""

    type: Literal["exact"] = "exact"


class NormalizedMatchOptions(MetricOptions):
    """The response is one of the references but for case, width (NFKC), punctuation and spaces; `3.5` is not `35`."""

    type: Literal["normalized_match"] = "normalized_match"
    articles: Literal["keep", "drop"] = "keep"
    """drop: `a`, `an` and `the` do not count either, as in SQuAD."""


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


class LengthOptions(MetricOptions):
    """How long the response is."""

    type: Literal["length"] = "length"
    units: Annotated[
        tuple[Literal["characters", "words", "tokens", "sentences"], ...],
        AsTuple,
        Field(min_length=1),
    ] = ("characters",)
    """Each is a metric: `length_words`. A Chinese character is a word; tokens are the model's."""
