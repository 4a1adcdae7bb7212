"""Finds prefixes that prompts share.

Computing a shared prefix once saves (prompts - 1) x length tokens of prefill. Of all ways to give each prompt at most one
shared prefix, the result is the one that saves most:

    s s a           all four share  s s      saves 6
    s s b           the last two    s s x x  saves 4
    s s x x c       ->  s s
    s s x x d
"""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_SAVING = 16
"""Fewest tokens of prefill that a shared prefix must save: it needs a separate attention operation."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prefix that several prompts share.

    Attributes:
        length: in tokens; shorter than each of the prompts, so that each computes its own last token.
        members: indices of the prompts.
    """

    length: int
    members: tuple[int, ...]

    @property
    def saving(self) -> int:
        """Number of tokens of prefill saved."""
        return self.length * (len(self.members) - 1)


def find_shared_prefixes(
    prompts: Sequence[Sequence[int]], *, min_saving: int = MIN_SAVING
) -> list[SharedPrefix]:
    """The prefixes to share; each prompt is in at most one."""
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    common = [common_length(prompts[order[i - 1]], prompts[order[i]]) for i in range(1, len(order))]
    found: list[SharedPrefix] = []
    _best(prompts, order, common, found)
    return [shared for shared in found if shared.saving >= min_saving]


@dataclass(slots=True)
class _Open:
    """A node of the tree of prefixes whose last member is not known yet."""

    length: int
    first: int
    below: list[SharedPrefix]

    def closed(self, members: Sequence[int], longest: int) -> list[SharedPrefix]:
        """The better choice: this prefix for all members, or the prefixes found below."""
        whole = SharedPrefix(min(self.length, longest), tuple(members))
        return [whole] if whole.saving >= sum(s.saving for s in self.below) else self.below


def _best(
    prompts: Sequence[Sequence[int]], order: list[int], common: list[int], found: list[SharedPrefix]
) -> None:
    """Traverse the tree of prefixes (the intervals of the LCP array) from the leaves up."""
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
    """Length of the common prefix of two prompts."""
    length = min(len(a), len(b))
    for at in range(length):
        if a[at] != b[at]:
            return at
    return length
