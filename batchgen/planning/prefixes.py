"""Finds the prefixes that prompts share, at most one per prompt, such that the saving is as large as possible.

    s s a           all four share  s s      saves 6
    s s b           the last two    s s x x  saves 4
    s s x x c       ->  s s
    s s x x d

Computing a shared prefix once saves (prompts - 1) x length tokens of prefill.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_SAVING = 16
"""Tokens of prefill that a shared prefix must save: its attention is computed separately."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """A prefix that several prompts share.

    Attributes:
        length: in tokens; less than each prompt's length, since each row computes its own last token.
        members: indices of the prompts.
    """

    length: int
    members: tuple[int, ...]

    @property
    def saving(self) -> int:
        """Tokens that are not computed again."""
        return self.length * (len(self.members) - 1)


def find_shared_prefixes(
    prompts: Sequence[Sequence[int]], *, min_saving: int = MIN_SAVING
) -> list[SharedPrefix]:
    """The prefixes to share; a prompt is a member of at most one."""
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    common = [common_length(prompts[order[i - 1]], prompts[order[i]]) for i in range(1, len(order))]
    chosen = _best(prompts, order, common)
    return [shared for shared in chosen if shared.saving >= min_saving]


@dataclass(slots=True)
class _Open:
    """A node of the tree of prefixes whose last member has not been reached."""

    length: int
    first: int
    below: list[SharedPrefix]

    def closed(self, members: Sequence[int], longest: int) -> list[SharedPrefix]:
        """The better of this prefix for all members and the prefixes chosen below."""
        common = SharedPrefix(min(self.length, longest), tuple(members))
        return [common] if common.saving >= sum(s.saving for s in self.below) else self.below


def _best(
    prompts: Sequence[Sequence[int]], order: list[int], common: list[int]
) -> list[SharedPrefix]:
    """Traverse the tree of prefixes (the intervals of the LCP array) bottom-up."""
    chosen: list[SharedPrefix] = []
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
                chosen += best
        if length > 0 and (not stack or stack[-1].length < length):
            stack.append(_Open(length, first, below))
    return chosen


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    length = min(len(a), len(b))
    for at in range(length):
        if a[at] != b[at]:
            return at
    return length
