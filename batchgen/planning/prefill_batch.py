"""How a prefill step is filled with rows. Plain Python; who comes next is `scheduler.py`'s decision."""

from collections.abc import Iterator
from dataclasses import dataclass

from batchgen.planning.sequences import Prefix, ScheduledSequence, Segment


@dataclass(slots=True)
class StepLimits:
    """What may run together.

    Attributes:
        rows: most rows at a time, and most logits of a step.
        step_tokens: most tokens of a prefill step.
        parts: in which a step is computed, side by side.
    """

    rows: int
    step_tokens: int
    parts: int = 1


class PrefillBatch:
    """A prefill step that is being made.

    Rows are cut where a part ends, so that all parts are of one size and nobody waits for the others:

        part 1   a a a a a | b b b          part 2   c c | d d d d d d          the rest of b and d: in the next step

    Not in a step that takes all there is, as one part: cut rows would want another step.
    """

    def __init__(self, limits: StepLimits, part_tokens: int) -> None:
        """Nothing yet; parts may have so many tokens."""
        self._part_tokens = part_tokens
        self._parts: list[list[Segment]] = [[]]
        self._tokens = limits.step_tokens
        self._logits = limits.rows
        self._room = self._part_tokens

    @property
    def open(self) -> bool:
        """Whether another row may begin."""
        return self._tokens > 0 and self._logits > 0

    def add(self, row: ScheduledSequence) -> None:
        """As many tokens of the row as there is room for."""
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
        """Part by part; in a part, those of one prefix side by side."""
        for part in self._parts:
            yield from sorted(part, key=lambda segment: prefix_key(segment.owner))


def prefix_key(owner: ScheduledSequence | Prefix) -> int:
    """Rows of one prefix lie together in a step: it is looked up for all of them at once."""
    return (
        owner.prefix.number
        if isinstance(owner, ScheduledSequence) and owner.prefix is not None
        else 0
    )
