"""Fills a prefill step with rows; `scheduler.py` decides which row comes next."""

from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment


@dataclass(slots=True)
class StepLimits:
    """Limits of a step.

    Attributes:
        rows: most rows in flight, and most logits of a step.
        step_tokens: most tokens of a prefill step.
        parts: number of parts in which a step is computed in parallel.
    """

    rows: int
    step_tokens: int
    parts: int = 1


class PrefillBatch:
    """A prefill step under construction.

    Rows are cut at the end of a part of `part_tokens` tokens, so that all parts take equally long:

        part 1   a a a a a | b b b          part 2   c c | d d d d d d          the rest of b and d: in the next step

    If one step takes all pending tokens, it is one part: a cut row would need another step.
    """

    def __init__(self, limits: StepLimits, part_tokens: int) -> None:
        self._part_tokens = part_tokens
        self._parts: list[list[Segment]] = [[]]
        self._tokens = limits.step_tokens
        self._logits = limits.rows
        self._part_left = part_tokens

    @property
    def open(self) -> bool:
        return self._tokens > 0 and self._logits > 0

    def add(self, row: ScheduledSequence) -> None:
        before = max(0, row.pending - row.draws)
        count = min(row.pending, self._part_left, self._tokens, before + self._logits)
        if count == 0:
            return
        drawn = max(0, count - before)
        self._parts[-1].append(Segment(row, count, drawn))
        self._tokens -= count
        self._logits -= drawn
        self._part_left -= count
        if self._part_left == 0:
            self._parts.append([])
            self._part_left = self._part_tokens

    def segments(self) -> Iterator[Segment]:
        """Part by part; rows with the same prefix are adjacent within a part."""
        for part in self._parts:
            yield from sorted(part, key=lambda segment: prefix_key(segment.owner))


def prefix_key(owner: ScheduledSequence | Prefix) -> int:
    """Sort key that makes rows with the same prefix adjacent: attention reads it once for all of them."""
    return owner.prefix.number if isinstance(owner, ScheduledSequence) and owner.prefix else 0
