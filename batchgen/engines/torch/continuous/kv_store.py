"""Keys and values of all layers, in pages: those of rows, then the arena with those of shared prefixes.

    keys            [pages, kv heads, key width, page size]     keys are transposed in a page: decode reads them by width
    values          [pages, kv heads, page size, value width]

A prefix begins a page, so that rows read it like their own pages.

On a CPU memory is not used before it is written.
"""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from batchgen.decoding.upload import upload
from batchgen.engines.torch.weights.large_pages import advise_large_pages
from batchgen.errors import ResourceError


@dataclass(frozen=True, slots=True)
class SlotMapping:
    """Page and offset in the page of new tokens, int64 [tokens]."""

    pages: Tensor
    offsets: Tensor


@dataclass(frozen=True, slots=True)
class PageRun:
    """Tokens first..last-1 of the forward are stored in one page, starting at `offset`."""

    page: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class KVStoreSizes:
    """Sizes of a store: `pages` of `page_size` tokens for rows, then pages with `arena` tokens for prefixes."""

    pages: int
    page_size: int
    arena: int

    @property
    def all_pages(self) -> int:
        return self.pages + -(-self.arena // self.page_size)

    def arena_pages(self, tokens: range) -> list[int]:
        """The pages of these tokens of the arena, the first of which begins a page."""
        size = self.page_size
        return list(range(self.pages + tokens.start // size, self.pages + -(-tokens.stop // size)))


@dataclass(frozen=True, slots=True)
class KVLayer:
    """One layer's keys and values."""

    keys: Tensor
    values: Tensor

    @classmethod
    def like(
        cls, keys: Tensor, values: Tensor, sizes: KVStoreSizes, zeros: "ZerosFactory"
    ) -> "KVLayer":
        """An empty layer for keys and values [tokens, kv heads, width] like these."""
        (heads, wide), high = keys.shape[1:], values.shape[2]
        return cls(
            zeros((sizes.all_pages, heads, wide, sizes.page_size), keys),
            zeros((sizes.all_pages, heads, sizes.page_size, high), values),
        )

    def write(self, keys: Tensor, values: Tensor, slots: SlotMapping) -> None:
        """Store new tokens in any slots: keys and values [tokens, kv heads, width]."""
        heads = torch.arange(keys.shape[1], device=keys.device)[None]
        page, offset = slots.pages[:, None], slots.offsets[:, None]
        self.keys[page, heads, :, offset] = keys
        self.values[page, heads, offset] = values

    def write_runs(self, keys: Tensor, values: Tensor, runs: Sequence[PageRun]) -> None:
        """Store consecutive tokens; on a CPU several times as fast as `write`."""
        for run in runs:
            tokens, end = slice(run.first, run.last), run.offset + run.last - run.first
            self.keys[run.page, :, :, run.offset : end] = keys[tokens].permute(1, 2, 0)
            self.values[run.page, :, run.offset : end] = values[tokens].transpose(0, 1)

    def read(self, pages: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """A copy of the first tokens of a row: keys and values [kv heads, tokens, width]."""
        keys = self.keys[pages].permute(1, 0, 3, 2).flatten(1, 2)
        values = self.values[pages].transpose(0, 1).flatten(1, 2)
        # With a single page the keys are still a transposed view, which fused attention misreads.
        return keys.contiguous()[:, :tokens], values[:, :tokens]


@dataclass(slots=True)
class KVStore:
    """All layers. A layer is created when it is first written, or `like` that of another store."""

    sizes: KVStoreSizes
    zeros: "ZerosFactory"
    layers: dict[int, KVLayer] = field(default_factory=dict)

    @classmethod
    def like(cls, other: "KVStore", sizes: KVStoreSizes, zeros: "ZerosFactory") -> "KVStore":
        """An empty store with other sizes for the same model, fully allocated before processes are forked."""
        made = cls(sizes, zeros)
        for number, layer in other.layers.items():
            made.layers[number] = KVLayer.like(
                layer.keys[..., 0], layer.values[:, :, 0], sizes, zeros
            )
        return made

    def layer(self, number: int, keys: Tensor, values: Tensor) -> KVLayer:
        """The layer, created for keys and values [tokens, kv heads, width] like these if necessary."""
        if number not in self.layers:
            self.layers[number] = KVLayer.like(keys, values, self.sizes, self.zeros)
        return self.layers[number]

    def free(self) -> None:
        """Return the memory at once, not when the garbage collector finds the engine. The store cannot be used afterwards."""
        self.layers.clear()

    @torch.inference_mode()
    def clear(self, pages: Sequence[int]) -> None:
        """Overwrite pages with zeros after a row with NaN: attention weight 0 times NaN is NaN."""
        for layer in self.layers.values():
            index = upload(torch.tensor(pages, dtype=torch.int64), layer.keys.device)
            layer.keys[index] = 0
            layer.values[index] = 0


class ZerosFactory(Protocol):
    """Allocates tensors of zeros."""

    def __call__(self, shape: tuple[int, ...], like: Tensor, /) -> Tensor:
        """Zeros of this shape, with the device and dtype of `like`."""


def private_zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros in private memory, which a forked process cannot access: a fork copies no page tables for it."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    return _mapped(shape, like.dtype, mmap.MAP_PRIVATE)


def shared_zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros in CPU memory that is shared with forked processes."""
    return _mapped(shape, like.dtype, mmap.MAP_SHARED)


def _mapped(shape: tuple[int, ...], dtype: torch.dtype, kind: int) -> Tensor:
    if prod(shape) == 0:
        return torch.zeros(shape, dtype=dtype)
    size = prod(shape) * dtype.itemsize
    try:
        memory = mmap.mmap(-1, size, flags=kind | mmap.MAP_ANONYMOUS)
    except OSError as error:
        # Without overcommit, allocation fails here and not when memory is written.
        raise ResourceError(
            f"cannot allocate {size / 1e6:,.0f} MB for keys, values and logits: {error.strerror}",
            hint="Lower batching.memory_fraction or batching.max_tokens.",
        ) from error
    if kind == mmap.MAP_PRIVATE and hasattr(mmap, "MADV_DONTFORK"):
        memory.madvise(mmap.MADV_DONTFORK)
    advise_large_pages(memory)
    return torch.frombuffer(memory, dtype=dtype).view(shape)
