"""Memory for weights that every step reads, in large pages where the system gives them (Linux: 2 MiB instead of 4 KiB).

With small pages a step of few rows waits for page tables: products of four rows take 1.2 times as long. torch's own
allocator makes a mapping for each weight, which is too small to contain large pages.
"""

import mmap
from contextlib import suppress
from math import prod

import torch
from torch import Tensor

LARGE_PAGE = 2**21
"""Bytes."""
_BLOCK = 32 * LARGE_PAGE
"""Bytes that are mapped at once. Those that no tensor reaches are never touched, so that the system gives no memory for them."""
_LINE = 64
"""Bytes of a cache line, where each weight begins."""


def advise_large_pages(memory: mmap.mmap) -> None:
    """Request large pages for a mapping; the system may decline."""
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)


class LargePages:
    """Places tensors one after the other; a block of them is freed with the last tensor in it."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def empty(self, shape: tuple[int, ...], /, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor, not initialised.

        Raises:
            MemoryError: the system has no memory for it.
        """
        size = prod(shape) * dtype.itemsize
        if size > len(self._free):
            self._free = _block(max(size, _BLOCK))
        place, self._free = self._free[:size], self._free[-(-size // _LINE) * _LINE :]
        return place.view(dtype).view(shape)


def _block(size: int) -> Tensor:
    """Bytes that begin at a large page."""
    try:
        memory = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        # Without overcommit, allocation fails here and not when memory is written.
        raise MemoryError(f"cannot allocate {size / 1e6:,.0f} MB: {error.strerror}") from error
    advise_large_pages(memory)
    whole = torch.frombuffer(memory, dtype=torch.uint8)
    return whole[-whole.data_ptr() % LARGE_PAGE :][:size]
