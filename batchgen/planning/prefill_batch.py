"""Fills a prefill step with rows; `scheduler.py` decides their order."""

from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment


@dataclass(slots=True)
class StepLimits:
    """Limits of what runs together.

    Attributes:
        rows: most rows at a time, and most logits of a step.
        step_tokens: most tokens of a prefill step.
        parts: number of parallel parts of a step.
    """

    rows: int
    step_tokens: int
    parts: int = 1


class PrefillBatch:
    """A prefill step under construction.

    Rows are cut where a part ends, so that all parts have equal size and no worker waits:

        part 1   a a a a a | b b b          part 2   c c | d d d d d d          the rest of b and d: in the next step

    If one step can take all tokens, it is one part: cut rows would need another step.
    """

    def __init__(self, limits: StepLimits, part_tokens: int) -> None:
        """`part_tokens`: most tokens of a part."""
        self._part_tokens = part_tokens
        self._parts: list[list[Segment]] = [[]]
        self._tokens = limits.step_tokens
        self._logits = limits.rows
        self._room = self._part_tokens

    @property
    def open(self) -> bool:
        """Whether another row fits."""
        return self._tokens > 0 and self._logits > 0

    def add(self, row: ScheduledSequence) -> None:
        """Add as many tokens of the row as fit."""
        before = max(0, row.pending - row.wanted)
        count = min(row.pending, self._room, self._tokens, before + self._logits)
        if count == 0:
            return
        drawn = max(0, count - before)
        self._parts[-1].append(Segment(row, count, drawn))
        self._tokens -= count
        self._logits -= drawn
        self._room -= count
        if self._room == 0:
            self._parts.append([])
            self._room = self._part_tokens

    def segments(self) -> Iterator[Segment]:
        """Segments by part; in a part, rows of the same prefix are adjacent."""
        for part in self._parts:
            yield from sorted(part, key=lambda segment: prefix_key(segment.owner))


def prefix_key(owner: ScheduledSequence | Prefix) -> int:
    """Sort key that makes rows of the same prefix adjacent: they attend to it in one product."""
    return (
        owner.prefix.number
        if isinstance(owner, ScheduledSequence) and owner.prefix is not None
        else 0
    )
