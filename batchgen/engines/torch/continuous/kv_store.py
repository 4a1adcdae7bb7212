"""Keys and values of all layers: of rows in pages, of shared prefixes in an arena.

    keys            [pages, kv heads, key width, page size]     a page's keys lie transposed: decode reads them by width
    values          [pages, kv heads, page size, value width]
    prefix keys     [kv heads, arena, key width]                a prefix is one piece of it
    prefix values   [kv heads, arena, value width]

Knows nothing of rows: it is told where tokens go. On a CPU memory costs nothing before it is written.
"""

import mmap
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from typing import Protocol

import torch
from torch import Tensor

from batchgen.errors import ResourceError


@dataclass(frozen=True, slots=True)
class SlotMapping:
    """Where new tokens go: page and place in the page, int64 [tokens]."""

    pages: Tensor
    offsets: Tensor


@dataclass(frozen=True, slots=True)
class PageRun:
    """Tokens first..last of the forward go into one page, from `offset` on."""

    page: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class KVStoreSizes:
    """How many tokens a store holds.

    Attributes:
        pages: of rows.
        page_size: tokens in a page.
        arena: tokens of prefixes.
    """

    pages: int
    page_size: int
    arena: int


@dataclass(frozen=True, slots=True)
class KVLayer:
    """One layer's keys and values."""

    keys: Tensor
    values: Tensor
    prefix_keys: Tensor
    prefix_values: Tensor

    @classmethod
    def like(
        cls, keys: Tensor, values: Tensor, sizes: KVStoreSizes, zeros: "ZerosFactory"
    ) -> "KVLayer":
        """An empty layer for keys and values [tokens, kv heads, width] like these."""
        (heads, wide), high = keys.shape[1:], values.shape[2]
        return cls(
            zeros((sizes.pages, heads, wide, sizes.page_size), keys),
            zeros((sizes.pages, heads, sizes.page_size, high), values),
            zeros((heads, sizes.arena, wide), keys),
            zeros((heads, sizes.arena, high), values),
        )

    def write(self, keys: Tensor, values: Tensor, places: SlotMapping) -> None:
        """Store new tokens anywhere.

        Args:
            keys: [tokens, kv heads, key width].
            values: [tokens, kv heads, value width].
            places: of these tokens.
        """
        heads = torch.arange(keys.shape[1], device=keys.device)[None]
        page, offset = places.pages[:, None], places.offsets[:, None]
        self.keys[page, heads, :, offset] = keys
        self.values[page, heads, offset] = values

    def write_runs(self, keys: Tensor, values: Tensor, runs: Sequence[PageRun]) -> None:
        """Store new tokens that follow one another; on a CPU several times as fast as one by one."""
        for run in runs:
            tokens, end = slice(run.first, run.last), run.offset + run.last - run.first
            self.keys[run.page, :, :, run.offset : end] = keys[tokens].permute(1, 2, 0)
            self.values[run.page, :, run.offset : end] = values[tokens].transpose(0, 1)

    def read(self, pages: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """The first tokens of a row, copied: keys and values [kv heads, tokens, width]."""
        keys = self.keys[pages].permute(1, 0, 3, 2).flatten(1, 2)
        values = self.values[pages].transpose(0, 1).flatten(1, 2)
        # Of a single page this is a view with keys still transposed, which fused attention misreads.
        return keys.contiguous()[:, :tokens], values[:, :tokens]

    def write_prefix(self, keys: Tensor, values: Tensor, start: int) -> None:
        """Store tokens of a prefix from place `start` of the arena on: keys and values [tokens, kv heads, width]."""
        end = start + len(keys)
        self.prefix_keys[:, start:end] = keys.transpose(0, 1)
        self.prefix_values[:, start:end] = values.transpose(0, 1)

    def read_prefix(self, start: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Tokens of a prefix, as views: keys and values [kv heads, tokens, width]."""
        end = start + tokens
        return self.prefix_keys[:, start:end], self.prefix_values[:, start:end]


@dataclass(slots=True)
class KVStore:
    """All layers. A layer takes shape when it is first written, or is made `like` those of another store."""

    sizes: KVStoreSizes
    zeros: "ZerosFactory"
    layers: dict[int, KVLayer] = field(default_factory=dict)

    @classmethod
    def like(cls, other: "KVStore", sizes: KVStoreSizes, zeros: "ZerosFactory") -> "KVStore":
        """An empty store of other sizes, for the same model: all of it is there before a process is forked."""
        made = cls(sizes, zeros)
        for number, layer in other.layers.items():
            keys, values = layer.prefix_keys.transpose(0, 1), layer.prefix_values.transpose(0, 1)
            made.layers[number] = KVLayer.like(keys, values, sizes, zeros)
        return made

    def layer(self, number: int, keys: Tensor, values: Tensor) -> KVLayer:
        """The layer whose new tokens look like these: [tokens, kv heads, width]."""
        if number not in self.layers:
            self.layers[number] = KVLayer.like(keys, values, self.sizes, self.zeros)
        return self.layers[number]

    @torch.inference_mode()
    def clear(self, pages: Sequence[int]) -> None:
        """Overwrite pages with zeros: a row with NaN in them has left, and weight 0 times NaN is NaN."""
        for layer in self.layers.values():
            layer.keys[list(pages)] = 0
            layer.values[list(pages)] = 0


class ZerosFactory(Protocol):
    """Makes tensors of zeros."""

    def __call__(self, shape: tuple[int, ...], like: Tensor, /) -> Tensor:
        """Zeros of that shape, with the device and dtype of `like`."""


def private_zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros for this process alone."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    return _mapped(shape, like.dtype, mmap.MAP_PRIVATE)


def shared_zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros on a CPU that this process and those it forks see alike."""
    return _mapped(shape, like.dtype, mmap.MAP_SHARED)


def _mapped(shape: tuple[int, ...], dtype: torch.dtype, kind: int) -> Tensor:
    if prod(shape) == 0:
        return torch.zeros(shape, dtype=dtype)
    size = prod(shape) * dtype.itemsize
    try:
        memory = mmap.mmap(-1, size, flags=kind | mmap.MAP_ANONYMOUS)
    except OSError as error:
        # A machine that promises no more memory than it has refuses here, not when it is written.
        raise ResourceError(
            f"the system gives no {size / 1e6:,.0f} MB for keys, values and logits: {error.strerror}",
            hint="lower batching.memory_fraction or batching.max_tokens",
        ) from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A request that the system may decline: decode reads all of it, and large pages need fewer look-ups.
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)
