"""Row counts for products that give a row the same bits at some numbers of rows only, as in bfloat16.

    counts 64, 256        24 rows   ->  64             computed as 64, 40 of them padding
                          300 rows  ->  256 + 64       computed in two pieces

Counts fall into groups: within one, a row's bits depend neither on its neighbours nor on their number. So a step is always
computed in pieces whose counts are out of one group, which all products of a model must have in common.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

_READING = 55
"""Reading all weights once takes as long as so many rows: measured in bfloat16 with AMX."""
_TYPICAL = (1, 4, 16, 48, 96, 192, 512, 1024)
"""Row counts of steps, by which groups are compared: few rows at the end of a batch, decoding, prompts."""


@dataclass(frozen=True, slots=True)
class ProductRows:
    """Counts of one group, in ascending order; at least one."""

    counts: tuple[int, ...]

    def cut(self, rows: int) -> list[int]:
        """The pieces in which so many rows are computed: each is one of the counts, and only the last is padded."""
        most = self.counts[-1]
        whole, rest = divmod(rows, most)
        last = [next(count for count in self.counts if count >= rest)] if rest else []
        return [most] * whole + last

    def padded(self, rows: int) -> int:
        """The rows of all pieces."""
        return sum(self.cut(rows))


def choose_row_counts(products: Sequence[Mapping[int, Hashable]]) -> ProductRows | None:
    """The cheapest group that all products have in common; None if there is none.

    Args:
        products: for each product, the bits of a row at each count at which they depend on nothing else.
    """
    common = set.intersection(*(set(bits) for bits in products)) if products else set()
    groups: dict[tuple[Hashable, ...], list[int]] = {}
    for count in sorted(common):
        groups.setdefault(tuple(bits[count] for bits in products), []).append(count)
    return min((ProductRows(tuple(group)) for group in groups.values()), key=_cost, default=None)


def _cost(group: ProductRows) -> float:
    """Time of typical steps relative to steps without padding."""

    def seconds(pieces: Sequence[int]) -> int:
        return sum(_READING + count for count in pieces)

    return sum(seconds(group.cut(rows)) / seconds([rows]) for rows in _TYPICAL)
