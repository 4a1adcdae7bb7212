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
        cuts: rows are cut after multiples of so many tokens, and at all of them; 1: anywhere.
    """

    rows: int
    step_tokens: int
    parts: int = 1
    cuts: int = 1

    @property
    def restarts(self) -> bool:
        """Whether a preempted row generates its answer again: last bits of a prefill of the answer could change it."""
        return self.cuts > 1


class PrefillBatch:
    """A prefill step under construction.

    Rows are cut at the end of a part of `part_tokens` tokens, so that all parts take equally long:

        part 1   a a a a a | b b b          part 2   c c | d d d d d d          the rest of b and d: in the next step

    If one step takes all pending tokens, it is one part: a cut row would need another step.

    Attention to the piece before a cut is merged, which changes last bits. Where those matter, `StepLimits.cuts` makes cuts
    depend on the row alone. A row that does not fit into the rest of a part then begins the next part or the next step:

        part 1   a a a a a | b b b          part 2   c c c c | d d d          e e e e: in the next step
    """

    def __init__(self, limits: StepLimits, part_tokens: int) -> None:
        self._limits = limits
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
        wanted = min(row.pending, before + self._logits)
        count = self._fitting(wanted) if self._limits.cuts == 1 else self._whole(row, wanted)
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

    def _fitting(self, wanted: int) -> int:
        return min(wanted, self._part_left, self._tokens)

    def _whole(self, row: ScheduledSequence, wanted: int) -> int:
        """The tokens up to the row's end or next cut if there is space for all of them; a row that is alone takes all space."""
        wanted = min(wanted, self._limits.cuts - row.cached % self._limits.cuts)
        if wanted <= self._fitting(wanted) or self._parts == [[]]:
            return self._fitting(wanted)
        fits = wanted <= min(self._tokens, self._part_tokens)
        if fits and len(self._parts) < self._limits.parts:
            self._parts.append([])
            self._part_left = self._part_tokens
            return wanted
        self._tokens = 0
        return 0

    def segments(self) -> Iterator[Segment]:
        """Part by part; rows with the same prefix are adjacent within a part."""
        for part in self._parts:
            yield from sorted(part, key=lambda segment: prefix_key(segment.owner))


def prefix_key(owner: ScheduledSequence | Prefix) -> int:
    """Sort key that makes rows with the same prefix adjacent: attention reads it once for all of them."""
    return owner.prefix.number if isinstance(owner, ScheduledSequence) and owner.prefix else 0
