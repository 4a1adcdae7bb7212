"""How different answers are from each other: distinct n-grams, duplicates, and the samples of one prompt."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from batchgen.metrics.base import Answer, Metric, MetricOptions, MetricType, Spec, unscored
from batchgen.metrics.overlap import unigram_f1
from batchgen.metrics.statistics.intervals import (
    FRACTION,
    NO_DATA,
    PointEstimate,
    moments,
    no_estimate,
    point_estimate,
    row_mean,
)
from batchgen.metrics.text import normalize, split_tokens
from batchgen.records import Score
from batchgen.section import AsTuple


class DistinctOptions(MetricOptions):
    """Distinct n-grams of tokens divided by all n-grams: how varied the answers are. Not comparable between window sizes."""

    type: Literal["distinct"] = "distinct"
    n: Annotated[tuple[Annotated[int, Field(ge=1, le=10)], ...], AsTuple, Field(min_length=1)] = (
        1,
        2,
    )
    """Each is a metric: `distinct_2`."""
    window: Annotated[int, Field(ge=10)] = 1000
    """Tokens over which n-grams are counted; the value is the mean of all whole windows, null if there is none."""


class DuplicatesOptions(MetricOptions):
    """Share of answers that repeat an earlier answer."""

    type: Literal["duplicates"] = "duplicates"
    variants: Annotated[tuple[Literal["exact", "near"], ...], AsTuple, Field(min_length=1)] = (
        "exact",
        "near",
    )
    """Each is a metric. exact: the same, ignoring case, width and punctuation. near: most groups of 5 characters are the same."""
    similarity: Annotated[float, Field(ge=0.6, le=1)] = 0.8
    """From which Jaccard similarity two answers are near duplicates."""


class SampleDiversityOptions(MetricOptions):
    """How different the answers to one prompt are: 1 minus the mean token F1 of its pairs. Needs several answers each."""

    type: Literal["sample_diversity"] = "sample_diversity"


_NO_INTERVAL = "answers drawn again would be duplicates"

Signature = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Distinct:
    """Distinct n-grams divided by all n-grams (Li et al. 2016), the mean over windows of a fixed number of tokens.

    The ratio falls with the amount of text, so that only windows of one size compare. A window has the tokens of
    consecutive answers; n-grams do not cross from one answer to the next.
    """

    spec: Spec
    n: int
    window: int

    def compute(self, answers: Iterable[Answer], level: float) -> PointEstimate:
        """The mean of all whole windows, with the interval of a mean."""
        shares = [len(set(grams)) / len(grams) for grams in self._windows(answers) if grams]
        if not shares:
            return no_estimate(
                f"answers too few or too short for a window of {self.window:,} tokens"
            )
        if len(shares) == 1:
            return point_estimate(shares[0], "one window gives no spread")
        found = row_mean(moments(np.array(shares)), level, FRACTION)
        return replace(found, method="t over windows") if found.method == "t" else found

    def _windows(self, answers: Iterable[Answer]) -> Iterator[list[tuple[str, ...]]]:
        grams: list[tuple[str, ...]] = []
        left = self.window
        for answer in answers:
            found = split_tokens(answer.response or "")
            while len(found) >= left:
                yield [*grams, *self._grams(found[:left])]
                found, grams, left = found[left:], [], self.window
            grams += self._grams(found)
            left -= len(found)

    def _grams(self, found: Sequence[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(found[at:] for at in range(self.n)), strict=False)


@dataclass(frozen=True, slots=True)
class ExactDuplicates:
    """Share of answers that repeat an earlier one, ignoring case, width, punctuation and spaces."""

    spec: Spec

    def compute(self, answers: Iterable[Answer], level: float) -> PointEstimate:
        del level
        seen: set[bytes] = set()
        count = 0
        for text in _texts(answers):
            seen.add(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
            count += 1
        return point_estimate((count - len(seen)) / count, _NO_INTERVAL) if count else NO_DATA


_SHINGLE = 5
_HASHES = 64
_BANDS = 16
_ODD = np.random.default_rng(5).integers(0, 2**63, (_HASHES, 1), np.uint64) * np.uint64(
    2
) + np.uint64(1)
_SHIFT = np.random.default_rng(7).integers(0, 2**63, (_HASHES, 1), np.uint64)
_POWERS = np.array([1_000_003**at % 2**64 for at in range(_SHINGLE)], np.uint64)


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Share of answers that nearly repeat an earlier one: most groups of five characters are the same.

    Jaccard similarity of sets of 5 characters is estimated by 64 minima (Broder 1997), with an error of about 0.05;
    pairs to compare are those that agree in one of 16 bands. Needs 256 bytes of memory for each answer.
    """

    spec: Spec
    similarity: float

    def compute(self, answers: Iterable[Answer], level: float) -> PointEstimate:
        del level
        found = [signature(text) for text in _texts(answers)]
        if not found:
            return NO_DATA
        signatures = np.stack(found)
        repeats = np.zeros(len(signatures), np.bool_)
        for band in np.split(signatures, _BANDS, axis=1):
            self._mark(repeats, signatures, np.ascontiguousarray(band))
        return point_estimate(float(repeats.mean()), _NO_INTERVAL)

    def _mark(self, repeats: npt.NDArray[np.bool_], all_: Signature, band: Signature) -> None:
        """Among the answers with the same band, mark those that are near to the first or to the one before them."""
        keys = band.view(np.dtype((np.void, band.shape[1] * band.itemsize))).ravel()
        _, bucket = np.unique(keys, return_inverse=True)
        order = np.argsort(bucket, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(bucket[order]) > 0])
        firsts = np.repeat(order[starts], np.diff(np.r_[starts, len(order)]))
        for later, earlier in ((order, firsts), (order[1:], order[:-1])):
            together = (bucket[later] == bucket[earlier]) & (later != earlier)
            later, earlier = later[together], earlier[together]
            near = (all_[later] == all_[earlier]).mean(axis=1) >= self.similarity
            repeats[later[near]] = True


def signature(text: str) -> Signature:
    """64 minima of hashes of the text's groups of five characters, uint32 [64]; the share of equal ones estimates Jaccard similarity."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = max(1, len(codes) - _SHINGLE + 1)
    shingles = np.zeros(count, np.uint64)
    for at, power in enumerate(_POWERS[: len(codes)]):
        shingles += codes[at : at + count] * power
    shingles ^= shingles >> np.uint64(29)
    minima = np.full((_HASHES, 1), np.iinfo(np.uint64).max, np.uint64)
    for chunk in np.array_split(shingles, range(4096, len(shingles), 4096)):
        hashes = (_ODD * chunk + _SHIFT).min(axis=1, keepdims=True)
        minima = np.minimum(minima, hashes)
    low: Signature = (minima.ravel() >> np.uint64(32)).astype(np.uint32)
    return low


def _texts(answers: Iterable[Answer]) -> Iterator[str]:
    forms = (normalize(answer.response or "") for answer in answers)
    return (form for form in forms if form)


@dataclass(frozen=True, slots=True)
class SampleDiversity:
    """How different the samples of one prompt are: 1 minus the mean token F1 of all pairs of them."""

    spec: Spec
    of: None = None

    def score_group(self, answers: Sequence[Answer], scores: Sequence[Score]) -> Score:
        """From 0, all samples have the same tokens, to 1, no two share any; needs two samples with tokens."""
        del scores
        found = [split_tokens(answer.response) for answer in answers if answer.response]
        pairs = [unigram_f1(left, right) for left, right in combinations(filter(None, found), 2)]
        if not pairs:
            return unscored(self.spec, "skipped", "fewer than two samples")
        return Score(self.spec.name, 1 - float(np.mean(pairs)), "ok")


def _duplicates(spec: Spec, options: DuplicatesOptions) -> tuple[Metric, ...]:
    return tuple(
        ExactDuplicates(spec.variant(name))
        if name == "exact"
        else NearDuplicates(spec.variant(name), options.similarity)
        for name in options.variants
    )


DISTINCT = MetricType(
    DistinctOptions, lambda spec, o: tuple(Distinct(spec.variant(str(n)), n, o.window) for n in o.n)
)
DUPLICATES = MetricType(DuplicatesOptions, _duplicates, higher_is_better=False)
SAMPLE_DIVERSITY = MetricType(SampleDiversityOptions, lambda spec, _: SampleDiversity(spec))
