"""How much of a reference is in the response, by tokens: token F1 and ROUGE. See `text.split_tokens` for what a token is.

Of several references the one that gives the highest score counts.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from batchgen.metrics.base import Answer, MetricOptions, MetricType, Spec, no_answer_found
from batchgen.metrics.text import split_tokens, tokens_without_articles
from batchgen.records import Score
from batchgen.section import AsTuple

Tokens = tuple[str, ...]


class TokenF1Options(MetricOptions):
    """Harmonic mean of precision and recall of tokens, as multisets; a Chinese character is a token."""

    type: Literal["token_f1"] = "token_f1"
    articles: Literal["keep", "drop"] = "keep"
    """drop: `a`, `an` and `the` are not tokens. For figures comparable with SQuAD's see `squad_f1`."""


class RougeOptions(MetricOptions):
    """F1 of n-grams (ROUGE-1, ROUGE-2) or of the longest common subsequence (ROUGE-L), without stemming."""

    type: Literal["rouge"] = "rouge"
    variants: Annotated[tuple[Literal["1", "2", "L"], ...], AsTuple, Field(min_length=1)] = (
        "1",
        "2",
        "L",
    )
    """Each is a metric: `rouge_1`, `rouge_2`, `rouge_L`."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The highest overlap with any reference, from 0 to 1."""

    spec: Spec
    overlap: Callable[[Tokens, Tokens], float]
    tokenize: Callable[[str], Tokens] = split_tokens

    def score(self, answer: Answer) -> Score:
        found = self.tokenize(answer.text)
        if not found:
            return no_answer_found(self.spec, answer)
        best = max(self.overlap(found, self.tokenize(r)) for r in answer.references)
        return Score(self.spec.name, best, "ok")


def unigram_f1(response: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two multisets of tokens; ROUGE-1 (Lin 2004, section 2), and SQuAD's F1 of its own tokens (Rajpurkar et al. 2016)."""
    return f1(multiset_overlap(response, reference), len(response), len(reference))


def bigram_f1(response: Sequence[str], reference: Sequence[str]) -> float:
    """F1 of two multisets of pairs of neighbours: ROUGE-2 (Lin 2004, section 2)."""
    left, right = list(pairwise(response)), list(pairwise(reference))
    return f1(multiset_overlap(left, right), len(left), len(right))


def lcs_f1(response: Sequence[str], reference: Sequence[str]) -> float:
    """F1 by the longest common subsequence: ROUGE-L (Lin 2004, section 3)."""
    return f1(lcs_length(response, reference), len(response), len(reference))


def f1(shared: int, left: int, right: int) -> float:
    """Harmonic mean of shared / left and shared / right."""
    return 2 * shared / (left + right) if shared else 0.0


def multiset_overlap(left: Sequence[object], right: Sequence[object]) -> int:
    """Size of the intersection of two multisets."""
    have = Counter(right)
    shared = 0
    for one in left:
        count = have.get(one, 0)
        if count:
            shared += 1
            have[one] = count - 1
    return shared


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table at a time in the bits of one integer.

    A bit of `row` is 0 where the table grows (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).
    """
    positions: dict[str, int] = {}
    for at, token in enumerate(right):
        positions[token] = positions.get(token, 0) | (1 << at)
    mask = (1 << len(right)) - 1
    row = mask
    for token in left:
        matches = row & positions.get(token, 0)
        if matches:
            row = ((row + matches) | (row - matches)) & mask
    return len(right) - row.bit_count()


_TOKENIZERS: Mapping[str, Callable[[str], Tokens]] = {
    "keep": split_tokens,
    "drop": tokens_without_articles,
}
_ROUGE = {"1": unigram_f1, "2": bigram_f1, "L": lcs_f1}

TOKEN_F1 = MetricType(
    TokenF1Options,
    lambda spec, o: Overlap(spec, unigram_f1, _TOKENIZERS[o.articles]),
    needs="references",
)
ROUGE = MetricType(
    RougeOptions,
    lambda spec, o: tuple(Overlap(spec.variant(name), _ROUGE[name]) for name in o.variants),
    needs="references",
)
