"""Allocators of the KV cache: pages of rows, those kept of finished rows, and the arena of shared prefixes.

They only count; tensors are in `kv_store.py`.
"""

import heapq
from collections.abc import Callable

from batchgen.planning.sequences import KeptSequence, ScheduledSequence


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


class KeptSequences:
    """Finished rows whose pages are kept for a row whose prompt begins with their prompt and answer.

        [ prompt 1 | answer 1 ]                        finished, kept
        [ prompt 1 | answer 1 | question 2 ]           the next turn of a conversation computes only what comes after

    They never take memory from rows that run: as soon as those need more pages, the rows kept last are dropped, and the rows
    that continue them compute everything again. Those kept first stay: their next turns come first.
    """

    def __init__(self, pages: PageAllocator, detach: Callable[[KeptSequence], None]) -> None:
        """Keep nothing yet; `detach` releases the prefix of a row that is dropped."""
        self.rows = self.tokens = 0
        """Rows that began with what was kept, and their tokens that were not computed again."""
        self._allocator = pages
        self._detach = detach
        self._kept: dict[KeptSequence, None] = {}

    @property
    def pages(self) -> int:
        """The number of pages that can be freed."""
        return sum(len(kept.pages) for kept in self._kept)

    def add(self, row: ScheduledSequence) -> KeptSequence:
        """Keep the pages and the prefix of a row that ends; it has none afterwards."""
        kept = KeptSequence(row.token_ids[: row.cached], row.prompt, row.prefix, row.pages)
        row.pages, row.prefix = [], None
        self._kept[kept] = None
        return kept

    def assign(self, row: ScheduledSequence, kept: KeptSequence, cuts: int) -> None:
        """Have a row that is not added yet begin with a finished one, as far as their tokens agree; `cuts`: see `StepLimits`."""
        if kept.reused:
            return  # another row continues it
        reused = kept.reusable(row, cuts)
        shared = 0
        if kept.prefix is not None:
            shared = len(kept.prefix.token_ids)
            if kept.agrees(row) >= shared:
                row.prefix, kept.prefix = kept.prefix, None
        if kept in self._kept and reused > shared:
            row.kept, kept.reused = kept, reused
        else:
            self.drop(kept)

    def take(self, row: ScheduledSequence) -> None:
        """Give a row that starts the pages that are kept for it, if they still are; it has no others yet."""
        kept, row.kept = row.kept, None
        if kept is None or kept not in self._kept:
            return
        del self._kept[kept]
        count = self._allocator.pages_for(kept.reused - row.shared)
        row.pages.extend(kept.pages[:count])
        del kept.pages[:count]
        self._allocator.release(kept.pages)
        self.rows += 1
        self.tokens += kept.reused - row.shared
        row.cached = kept.reused

    def make_room(self, pages: int) -> None:
        """Drop the rows kept last until so many pages are free, or nothing is kept."""
        while self._kept and self._allocator.free < pages:
            self.drop(next(reversed(self._kept)))

    def drop(self, kept: KeptSequence) -> None:
        """Free what is kept of a row, unless that was done before."""
        if kept in self._kept:
            del self._kept[kept]
            self._allocator.release(kept.pages)
            kept.reused = 0
        self._detach(kept)
