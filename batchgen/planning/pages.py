"""Allocators of the KV cache: pages of rows, and the arena of shared prefixes. They only count; tensors are in `kv_store.py`."""

import heapq


class PageAllocator:
    """Hands out `total` pages of `size` tokens, lowest numbers first, so that a small job touches little memory."""

    def __init__(self, total: int, size: int) -> None:
        self.size = size
        self.total = total
        self._free = list(range(total))

    @property
    def free(self) -> int:
        return len(self._free)

    def pages_for(self, tokens: int) -> int:
        """The number of pages that so many tokens fill."""
        return -(-tokens // self.size)

    def allocate(self, count: int) -> list[int]:
        """Allocate pages. Raises ValueError if there are fewer."""
        if count > len(self._free):
            raise ValueError(f"{count} pages requested, {len(self._free)} free")
        return [heapq.heappop(self._free) for _ in range(count)]

    def release(self, pages: list[int]) -> None:
        """Free these pages, and empty the list."""
        for page in pages:
            heapq.heappush(self._free, page)
        pages.clear()


class Arena:
    """Hands out contiguous ranges of `total` token positions, each of which begins at a multiple of `unit`."""

    def __init__(self, total: int, unit: int = 1) -> None:
        self.total = total
        self._unit = unit
        self._held: list[range] = []

    def allocate(self, length: int) -> range | None:
        """The first free range of that length; None if there is none."""
        start = 0
        for held in self._held:
            if held.start - start >= length:
                break
            start = -(-held.stop // self._unit) * self._unit
        if start + length > self.total:
            return None
        piece = range(start, start + length)
        self._held.append(piece)
        self._held.sort(key=lambda held: held.start)
        return piece

    def release(self, piece: range) -> None:
        self._held.remove(piece)
