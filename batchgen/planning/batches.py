"""Requests put in order and cut into batches that fit a budget.

    order   longest prompt first, so that neighbours are alike and the fullest memory comes first
    cut     rows x (longest prompt + largest max_new_tokens) <= limits.tokens, and at most limits.rows rows

Plain Python: what fits is policy. Knows nothing of tensors, models or how large a token is.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from batchgen.records import Request

T = TypeVar("T")

STEP_TOKENS = 32
"""What one more decode step costs, in tokens of prefill, however few rows take part in it.

Measured on two AVX2 cores with a model of 135 million parameters: a step of one row takes about 80 ms (weights
stream from memory), prefill runs at about 450 tokens a second. Larger on a GPU, where 32 splits more than it should.
"""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What a batch may hold.

    Attributes:
        rows: most rows.
        tokens: most tokens, rows x (longest prompt + largest max_new_tokens).
        sort: "length" also ends a batch where padding would cost more than one batch more: a batch runs
            up to max_new_tokens steps, each worth STEP_TOKENS of prefill, and every padded token is prefilled.
            So one long prompt does not pad 63 short ones, and a long prompt that follows short ones (the next
            part's first) starts anew unless the difference is small. "none" minds rows and tokens only.
    """

    rows: int
    tokens: int
    sort: Literal["length", "none"] = "length"


@dataclass(frozen=True, slots=True)
class _Size:
    prompt: int
    new: int


@dataclass(frozen=True, slots=True)
class _Shape:
    """A batch as the limits see it: a rectangle of `rows` rows, `longest` + `new` tokens wide."""

    rows: int = 0
    longest: int = 0
    new: int = 0
    prompt_tokens: int = 0

    def joined(self, size: _Size) -> "_Shape":
        return _Shape(
            self.rows + 1,
            max(self.longest, size.prompt),
            max(self.new, size.new),
            self.prompt_tokens + size.prompt,
        )

    def fits(self, limits: BatchLimits) -> bool:
        if self.rows == 1:
            return True
        if self.rows > limits.rows or self.rows * (self.longest + self.new) > limits.tokens:
            return False
        padding = self.rows * self.longest - self.prompt_tokens
        return limits.sort == "none" or padding <= STEP_TOKENS * self.new


_EMPTY = _Shape()


def by_length(requests: Iterable[Request]) -> list[Request]:
    """Longest prompt first; requests of one length stay in their order."""
    return sorted(requests, key=lambda request: -len(request.token_ids))


def cut(requests: Iterable[Request], limits: BatchLimits) -> Iterator[list[Request]]:
    """Consecutive requests as batches within the limits.

    Lazy: at most one request is pulled that is not in the batch just yielded, and none once a batch has all
    its rows. A request that is too large by itself makes a batch of one.
    """
    return _cut(requests, limits, _size_of_request)


def _size_of_request(request: Request) -> _Size:
    return _Size(len(request.token_ids), request.decoding.max_new_tokens)


def _cut(items: Iterable[T], limits: BatchLimits, size: Callable[[T], _Size]) -> Iterator[list[T]]:
    batch: list[T] = []
    shape = _EMPTY
    for item in items:
        joined = shape.joined(size(item))
        if not joined.fits(limits):
            yield batch
            batch, joined = [], _EMPTY.joined(size(item))
        batch.append(item)
        shape = joined
        if shape.rows == limits.rows:
            yield batch
            batch, shape = [], _EMPTY
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Estimate:
    """How a job would be cut, from prompt lengths alone.

    Attributes:
        rows: of each batch, in the order in which they would run.
        padding: share of prompt tokens that are padding, as the limits say.
        padding_unsorted: the same for the rows in input order.
    """

    rows: tuple[int, ...]
    padding: float
    padding_unsorted: float


def estimate(
    lengths: Sequence[int], max_new_tokens: int, limits: BatchLimits, *, part_rows: int
) -> Estimate:
    """What `cut` would make of prompts of these lengths.

    Args:
        lengths: prompt tokens of each request, in input order.
        max_new_tokens: of every request.
        limits: as for `cut`; with sort "length" each part is sorted first.
        part_rows: requests that are sorted together.
    """

    def batches(ordered: Iterable[int], limits: BatchLimits) -> list[list[int]]:
        return list(_cut(ordered, limits, lambda length: _Size(length, max_new_tokens)))

    unsorted = batches(lengths, replace(limits, sort="none"))
    planned = unsorted
    if limits.sort == "length":
        parts = (lengths[at : at + part_rows] for at in range(0, len(lengths), part_rows))
        planned = batches((n for part in parts for n in sorted(part, reverse=True)), limits)
    rows = tuple(len(batch) for batch in planned)
    return Estimate(rows, padding_share(planned), padding_share(unsorted))


def padding_share(batches: Iterable[Sequence[int]]) -> float:
    """Share of prompt tokens that are padding, from the prompt lengths of each batch: 0 to below 1."""
    cells = tokens = 0
    for lengths in batches:
        cells += len(lengths) * max(lengths, default=0)
        tokens += sum(lengths)
    return 1 - tokens / cells if cells else 0.0
