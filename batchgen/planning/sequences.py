"""The data of continuous batching: rows, prefixes that rows share, and steps that compute their tokens.

    Step ──of──> Segment ──tokens of──> ScheduledSequence ──beginning──> Prefix

`scheduler.py` decides which rows are in a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from batchgen.planning.prefixes import common_length, find_shared_prefixes


@dataclass(eq=False, slots=True)
class Prefix:
    """The beginning of several prompts.

    Attributes:
        number: id, from 1.
        token_ids: from the first token of the prompt.
        users: number of rows that still use the prefix.
        computed: number of its tokens with keys and values.
        arena_range: its positions in the arena; None if not allocated.
    """

    number: int
    token_ids: Sequence[int]
    users: int = 0
    computed: int = 0
    arena_range: range | None = None

    @property
    def ready(self) -> bool:
        return self.computed == len(self.token_ids)


@dataclass(eq=False, slots=True)
class KeptSequence:
    """A finished row whose keys and values are kept for a row that continues it: `pages.KeptSequences`.

    Attributes:
        token_ids: those with keys and values, prefix included.
        prompt: number of prompt tokens.
        prefix: which it holds until a row that continues it does; None afterwards, or without one.
        pages: of the tokens behind the prefix.
        reused: number of tokens that the row that continues it does not compute; 0 if it is dropped.
    """

    token_ids: Sequence[int]
    prompt: int
    prefix: Prefix | None
    pages: list[int]
    reused: int = 0

    def agrees(self, row: "ScheduledSequence") -> int:
        """The number of tokens with which the row begins as well, without its last one, whose logits are needed."""
        return min(common_length(self.token_ids, row.token_ids), len(row.token_ids) - row.draws)

    def reusable(self, row: "ScheduledSequence", cuts: int) -> int:
        """The number of those tokens whose keys and values have the bits that the row would compute.

        Where a prefill has other last bits than the steps of an answer (`StepLimits.cuts`), those of the prompt up to a cut.
        """
        agrees = self.agrees(row)
        return agrees if cuts == 1 else min(agrees, self.prompt) // cuts * cuts


@dataclass(eq=False, slots=True)
class ScheduledSequence:
    """A row: a prompt and its growing answer.

    Attributes:
        number: the engine's key, in order of arrival.
        token_ids: prompt and new tokens; grows.
        prompt: number of prompt tokens.
        limit: most new tokens.
        prefix: shared prefix; its tokens are not in the row's own pages.
        draws: number of last tokens whose logits are needed.
        cached: number of tokens with keys and values, including the prefix.
        pages: of the row's own tokens (`own`: those not in the prefix), in order.
        expected_pages: expected number of pages at its end, as of its admission.
        kept: what is kept of the row that it continues, until it starts.
    """

    number: int
    token_ids: list[int]
    prompt: int
    limit: int
    prefix: Prefix | None = None
    draws: int = 1
    cached: int = 0
    pages: list[int] = field(default_factory=list)
    expected_pages: int = 0
    kept: KeptSequence | None = None

    @property
    def shared(self) -> int:
        return len(self.prefix.token_ids) if self.prefix else 0

    @property
    def pending(self) -> int:
        return len(self.token_ids) - self.cached

    @property
    def known(self) -> int:
        """Number of tokens whose keys and values the row has, or will have when it starts."""
        return max(self.cached, self.shared, self.kept.reused if self.kept else 0)

    @property
    def own(self) -> int:
        return self.cached - self.shared


def assign_prefixes(
    rows: Sequence[ScheduledSequence], prompts: Sequence[Sequence[int]], first_number: int
) -> int:
    """Assign shared prefixes of the prompts to rows, numbered from `first_number`; returns their number."""
    prefixes = find_shared_prefixes(prompts)
    for number, shared in enumerate(prefixes, first_number):
        token_ids = prompts[shared.members[0]][: shared.length]
        prefix = Prefix(number, token_ids, users=len(shared.members))
        for member in shared.members:
            rows[member].prefix = prefix
    return len(prefixes)


@dataclass(frozen=True, slots=True)
class Segment:
    """The next `count` uncached tokens of a row or prefix. The logits of the last `drawn` tokens are needed."""

    owner: ScheduledSequence | Prefix
    count: int
    drawn: int


class StepKind(Enum):
    """Whether a step computes prompts or one new token per row."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Step:
    """Segments that are computed together: of rows or of prefixes, not both."""

    kind: StepKind
    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> int:
        return sum(segment.count for segment in self.segments)

    @property
    def rows(self) -> list[ScheduledSequence]:
        return [row for row, _ in self.drawn]

    @property
    def drawn(self) -> list[tuple[ScheduledSequence, int]]:
        """The rows with needed logits and their number, in the order of the logits."""
        return [
            (s.owner, s.drawn)
            for s in self.segments
            if s.drawn and isinstance(s.owner, ScheduledSequence)
        ]
