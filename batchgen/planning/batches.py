"""Sorts requests, longest prompt first, and cuts them into padded batches within limits.

Sorted, the lengths in a batch are similar, and memory peaks early.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from batchgen.records import Request

STEP_TOKENS = 32
"""Cost of one more decode step, in tokens of prefill, however few rows it has.

Measured on two AVX2 cores with a model of 135 million parameters: a step of one row takes about 80 ms (weights
stream from memory), prefill runs at about 450 tokens a second. Larger on a GPU, where 32 splits more than it should.
"""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of a batch.

    Attributes:
        tokens: rows x (longest prompt + largest max_new_tokens).
        sort: "length" also ends a batch where padding would cost more than another batch: a batch runs up to
            max_new_tokens steps, each worth STEP_TOKENS of prefill, and every padded token is prefilled. So one long
            prompt does not pad 63 short ones, and a long prompt after short ones (the first of the next part) starts
            a batch unless the difference is small. "none" applies the limits of rows and tokens only.
    """

    rows: int
    tokens: int
    sort: Literal["length", "none"] = "length"


@dataclass(frozen=True, slots=True)
class _Shape:
    """A batch as a rectangle: `rows` rows, each `longest` + `new` tokens wide."""

    rows: int = 0
    longest: int = 0
    new: int = 0
    prompt_tokens: int = 0

    def joined(self, request: Request) -> "_Shape":
        prompt = len(request.token_ids)
        return _Shape(
            self.rows + 1,
            max(self.longest, prompt),
            max(self.new, request.decoding.max_new_tokens),
            self.prompt_tokens + prompt,
        )

    def fits(self, limits: BatchLimits) -> bool:
        if self.rows == 1:
            return True
        if self.rows > limits.rows or self.rows * (self.longest + self.new) > limits.tokens:
            return False
        padding = self.rows * self.longest - self.prompt_tokens
        return limits.sort == "none" or padding <= STEP_TOKENS * self.new


def sort_by_length(requests: Iterable[Request]) -> list[Request]:
    """Sort by prompt length, longest first; the order is stable."""
    return sorted(requests, key=lambda request: -len(request.token_ids))


def cut_batches(requests: Iterable[Request], limits: BatchLimits) -> Iterator[list[Request]]:
    """Cut consecutive requests into batches within the limits.

    Lazy: at most one request beyond the yielded batch is pulled, and none if the batch has all its rows. A request
    that exceeds the limits alone is a batch of one.
    """
    batch: list[Request] = []
    shape = _Shape()
    for request in requests:
        shape = shape.joined(request)
        if not shape.fits(limits):
            yield batch
            batch, shape = [], _Shape().joined(request)
        batch.append(request)
        if shape.rows == limits.rows:
            yield batch
            batch, shape = [], _Shape()
    if batch:
        yield batch


def padding_share(batches: Iterable[Sequence[int]]) -> float:
    """Share of prompt tokens that are padding, from the prompt lengths of each batch: 0 to below 1."""
    cells = tokens = 0
    for lengths in batches:
        cells += len(lengths) * max(lengths, default=0)
        tokens += sum(lengths)
    return 1 - tokens / cells if cells else 0.0
