"""What requests have in common: identical ones, and beginnings that many prompts share.

Computing a shared beginning once and each rest by itself saves (prompts - 1) x length tokens of prefill. Of all ways to
give each prompt at most one shared beginning, the one that saves most:

    s s a           all four share  s s      saves 6
    s s b           the last two    s s x x  saves 4
    s s x x c       ->  s s
    s s x x d

Plain token ids; knows nothing of caches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_SAVING = 16
"""Tokens of prefill that a shared beginning must save: it costs a piece of attention of its own."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A beginning that several prompts share.

    Attributes:
        length: in tokens; shorter than every one of the prompts, so that each computes its last token itself.
        members: indices of the prompts.
    """

    length: int
    members: tuple[int, ...]

    @property
    def saving(self) -> int:
        """Tokens that need not be computed."""
        return self.length * (len(self.members) - 1)


def find_shared_prefixes(
    prompts: Sequence[Sequence[int]], *, min_saving: int = MIN_SAVING
) -> list[SharedPrefix]:
    """The beginnings to share; no prompt is in two of them."""
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    common = [common_length(prompts[order[i - 1]], prompts[order[i]]) for i in range(1, len(order))]
    found: list[SharedPrefix] = []
    _best(prompts, order, common, found)
    return [shared for shared in found if shared.saving >= min_saving]


@dataclass(slots=True)
class _Open:
    """A node of the tree of beginnings whose last member is not known yet."""

    length: int
    first: int
    below: list[SharedPrefix]

    def closed(self, members: Sequence[int], longest: int) -> list[SharedPrefix]:
        """What to share here: this beginning for all, or what was found below."""
        whole = SharedPrefix(min(self.length, longest), tuple(members))
        return [whole] if whole.saving >= sum(s.saving for s in self.below) else self.below


def _best(
    prompts: Sequence[Sequence[int]], order: list[int], common: list[int], found: list[SharedPrefix]
) -> None:
    """Walk the tree of beginnings (the intervals of the LCP array) from the leaves up."""
    stack = [_Open(0, 0, [])]
    for at in range(1, len(order) + 1):
        length = common[at - 1] if at < len(order) else 0
        first, below = at - 1, []
        while stack and stack[-1].length > length:
            node = stack.pop()
            members = order[node.first : at]
            best = node.closed(members, min(len(prompts[i]) for i in members) - 1)
            first = node.first
            if stack and stack[-1].length >= length and stack[-1].length > 0:
                stack[-1].below += best
            elif length > 0:
                below = best
            else:
                found += best
        if length > 0 and (not stack or stack[-1].length < length):
            stack.append(_Open(length, first, below))


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two prompts have in common from the start."""
    length = min(len(a), len(b))
    for at in range(length):
        if a[at] != b[at]:
            return at
    return length
