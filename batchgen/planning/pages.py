"""Allocation of the KV cache: pages for rows, an arena for prefixes.

A page has a fixed number of tokens of one row. Lowest numbers are used first, so that a small job touches little memory.
"""

import heapq


class PageAllocator:
    """The free pages of a cache.

    Attributes:
        size: tokens in a page.
        total: number of pages.
    """

    def __init__(self, total: int, size: int) -> None:
        """All pages are free."""
        self.size = size
        self.total = total
        self._free = list(range(total))

    @property
    def free(self) -> int:
        """Number of free pages."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """Number of pages for so many tokens."""
        return -(-tokens // self.size)

    def take(self, count: int) -> list[int]:
        """Allocate pages, lowest numbers first; ValueError if there are not enough."""
        if count > len(self._free):
            raise ValueError(f"{count} pages wanted, {len(self._free)} free")
        return [heapq.heappop(self._free) for _ in range(count)]

    def give_back(self, pages: list[int]) -> None:
        """Free pages and empty the list."""
        for page in pages:
            heapq.heappush(self._free, page)
        pages.clear()


class Arena:
    """Consecutive places, allocated as ranges.

    Attributes:
        total: number of places.
    """

    def __init__(self, total: int) -> None:
        """All places are free."""
        self.total = total
        self._held: list[range] = []

    def take(self, length: int) -> range | None:
        """Allocate the first free range of this length; None if there is none."""
        start = 0
        for held in self._held:
            if held.start - start >= length:
                break
            start = held.stop
        if start + length > self.total:
            return None
        piece = range(start, start + length)
        self._held.append(piece)
        self._held.sort(key=lambda held: held.start)
        return piece

    def give_back(self, piece: range) -> None:
        """Free a range."""
        self._held.remove(piece)
