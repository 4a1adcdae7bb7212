"""Which pages of the cache are free. Plain numbers: what a page holds is `kv_store.py`'s affair.

A page holds a fixed number of tokens of one row. Lowest numbers go first, so that a job that needs little memory
touches little of it.
"""

import heapq


class PageAllocator:
    """The free pages of a cache.

    Attributes:
        size: tokens in a page.
        total: pages in all.
    """

    def __init__(self, total: int, size: int) -> None:
        """All `total` pages of `size` tokens are free."""
        self.size = size
        self.total = total
        self._free = list(range(total))

    @property
    def free(self) -> int:
        """How many pages nobody holds."""
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """How many pages so many tokens fill."""
        return -(-tokens // self.size)

    def take(self, count: int) -> list[int]:
        """Hand out pages, lowest numbers first. There must be as many."""
        if count > len(self._free):
            raise ValueError(f"{count} pages wanted, {len(self._free)} free")
        return [heapq.heappop(self._free) for _ in range(count)]

    def give_back(self, pages: list[int]) -> None:
        """Take pages back; the list is emptied."""
        for page in pages:
            heapq.heappush(self._free, page)
        pages.clear()


class Arena:
    """Places in a row, handed out in pieces.

    Attributes:
        total: places in all.
    """

    def __init__(self, total: int) -> None:
        """All `total` places are free."""
        self.total = total
        self._held: list[range] = []

    def take(self, length: int) -> range | None:
        """The first free piece of that length; None if there is none."""
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
        """Take a piece back."""
        self._held.remove(piece)
