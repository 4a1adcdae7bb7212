"""What continuous batching is made of: rows that grow, prefixes that rows share, and steps that compute tokens of them.

    Step ──of──> Segment ──so many tokens of──> Row ──its beginning──> Prefix

Plain Python: no tensors, no model. Who is in a step is `scheduler.py`'s decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import accumulate, pairwise

from batchgen.planning.prefixes import find_shared_prefixes


@dataclass(eq=False, slots=True)
class Prefix:
    """The beginning of several prompts.

    Attributes:
        number: tells prefixes apart, from 1.
        token_ids: from the first token of the prompt on.
        users: rows that are not gone yet; nobody else keeps the prefix.
        computed: how many of its tokens have keys and values.
        places: in the arena; None while it has none.
    """

    number: int
    token_ids: Sequence[int]
    users: int = 0
    computed: int = 0
    places: range | None = None

    @property
    def ready(self) -> bool:
        """Whether all of it is computed."""
        return self.computed == len(self.token_ids)


@dataclass(eq=False, slots=True)
class ScheduledSequence:
    """One answer on its way.

    Attributes:
        number: the engine's key, ascending in the order of arrival.
        token_ids: prompt and new tokens; grows.
        prompt: how many of them are the prompt.
        limit: most new tokens.
        prefix: what it shares; its tokens are not in the row's own pages.
        wanted: so many of the last tokens draw: the logits behind them are wanted.
        cached: tokens that have keys and values, prefix included.
        pages: of the row's own tokens, in order.
    """

    number: int
    token_ids: list[int]
    prompt: int
    limit: int
    prefix: Prefix | None = None
    wanted: int = 1
    cached: int = 0
    pages: list[int] = field(default_factory=list)

    @property
    def shared(self) -> int:
        """Tokens that lie in the prefix."""
        return len(self.prefix.token_ids) if self.prefix else 0

    @property
    def pending(self) -> int:
        """Tokens that have no keys and values yet."""
        return len(self.token_ids) - self.cached

    @property
    def own(self) -> int:
        """Cached tokens that lie in the row's own pages."""
        return self.cached - self.shared


def assign_prefixes(
    rows: Sequence[ScheduledSequence], prompts: Sequence[Sequence[int]], first_number: int
) -> int:
    """Give rows the beginnings that their prompts share, numbered from `first_number` on; return how many there are."""
    found = find_shared_prefixes(prompts)
    for number, shared in enumerate(found, first_number):
        beginning = prompts[shared.members[0]][: shared.length]
        prefix = Prefix(number, beginning, users=len(shared.members))
        for member in shared.members:
            rows[member].prefix = prefix
    return len(found)


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` tokens of a row or a prefix, from where its cache ends. The last `drawn` of them draw: their logits are wanted."""

    owner: ScheduledSequence | Prefix
    count: int
    drawn: int


class StepKind(Enum):
    """What a step does."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Step:
    """What is computed together: segments of rows, or of prefixes, never of both."""

    kind: StepKind
    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the forward."""
        return sum(segment.count for segment in self.segments)

    @property
    def rows_only(self) -> bool:
        """Whether no segment is a prefix's."""
        return all(isinstance(segment.owner, ScheduledSequence) for segment in self.segments)

    @property
    def rows(self) -> list[ScheduledSequence]:
        """The rows that draw, in the order of the logits."""
        return [row for row, _ in self.drawn]

    @property
    def drawn(self) -> list[tuple[ScheduledSequence, int]]:
        """The rows that draw, and how often, in the order of the logits."""
        return [
            (s.owner, s.drawn)
            for s in self.segments
            if s.drawn and isinstance(s.owner, ScheduledSequence)
        ]


FEWEST_TOKENS = 8
"""Of a part. Fewer leave a thread waiting for the weights, which all threads together can wait for just as well."""


_TOKENS_AS_ONE = 2000
"""Looking at so many earlier tokens takes about as long as all else that is done for a token."""


_UNEVEN = 1.3
"""A part that has so many times its share is not worth it: the others would wait."""


def split_step(step: Step, parts: int) -> list[Step]:
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
    cached = (
        segment.owner.cached
        if isinstance(segment.owner, ScheduledSequence)
        else segment.owner.computed
    )
    return segment.count * (1 + (cached + segment.count / 2) / _TOKENS_AS_ONE)
