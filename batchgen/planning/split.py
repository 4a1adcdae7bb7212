"""A step cut into parts that can be computed at the same time, one a thread.

    decode    | row row row row row | row row row row |       about the same work on both sides
    prefill   | row row row | row row row row         |       whole segments: a row's tokens look at one another

Each part is a step of its own; put together in order, their logits are those of the whole. Plain Python.
"""

from itertools import accumulate, pairwise

from batchgen.planning.rows import Row, Segment, Step

FEWEST_TOKENS = 8
"""Of a part. Fewer leave a thread waiting for the weights, which all threads together can wait for just as well."""

_TOKENS_AS_ONE = 2000
"""Looking at so many earlier tokens takes about as long as all else that is done for a token."""

_UNEVEN = 1.3
"""A part that has so many times its share is not worth it: the others would wait."""


def split(step: Step, parts: int) -> list[Step]:
    """The step in `parts` parts of like work, or whole where that cannot be."""
    if parts == 1 or step.tokens < parts * FEWEST_TOKENS or not step.rows_only:
        return [step]
    work = [_work(segment) for segment in step.segments]
    done = [0.0, *accumulate(work)]
    share = done[-1] / parts
    borders = [
        min(range(len(done)), key=lambda i: abs(done[i] - n * share)) for n in range(parts + 1)
    ]
    runs = list(pairwise(borders))
    if any(first == last or done[last] - done[first] > _UNEVEN * share for first, last in runs):
        return [step]
    return [Step(step.kind, step.segments[first:last]) for first, last in runs]


def _work(segment: Segment) -> float:
    """In tokens that look at nothing."""
    cached = segment.owner.cached if isinstance(segment.owner, Row) else segment.owner.computed
    return segment.count * (1 + (cached + segment.count / 2) / _TOKENS_AS_ONE)
