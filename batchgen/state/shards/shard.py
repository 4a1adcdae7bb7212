"""A shard: which parts of a run one process makes. `3/16` makes the parts whose number modulo 16 is 3; `any` claims parts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from batchgen.errors import UsageError

MOST_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` of `count`, from 0; a count of 0 means a worker that claims parts."""

    index: int = 0
    count: int = 0

    def __str__(self) -> str:
        return f"{self.index}/{self.count}" if self.count else "any"

    @property
    def claims(self) -> bool:
        """Whether it shares its parts with others, and claims each before it makes it."""
        return not self.count

    def own(self, parts: int) -> range:
        """The numbers of its parts, of a run with this many; of a worker that claims parts, those of all."""
        return range(self.index, parts, self.count or 1)


def parse_shard(text: str) -> Shard:
    """Read `I/N`, I from 0 to N-1, or `any`.

    Raises:
        UsageError: it is neither.
    """
    if text == "any":
        return Shard()
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is not None:
        index, count = int(found[1]), int(found[2])
        if index < count <= MOST_SHARDS:
            return Shard(index, count)
    problem = "expected I/N with I from 0 to N-1, or any"
    if found is not None and found[1] == found[2] != "0":
        problem = f"the shards of {found[2]} are numbered from 0 to {int(found[2]) - 1}"
    raise UsageError(f"--shard {text}: {problem}", hint="Write such as 0/16, or any.")


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as ranges, such as `3, 7-9`."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def short_ranges(numbers: Iterable[int], most: int = 12) -> str:
    """The first ranges, and how many more there are."""
    listed = ranges(numbers).split(", ")
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more:,} more ranges" if more > 0 else "")
