"""Decides where attention is one kernel compiled by numba: on a CPU, in float32 or bfloat16, no window, no soft cap.

torch computes everything else: `step_attention.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from batchgen.engines.torch.continuous.forward.attention import (
    AttendedKeys,
    AttentionRule,
    LayerQkv,
    PartialAttention,
    past_attention,
)
from batchgen.engines.torch.continuous.forward.kernel_check import (
    NUMBERS,
    array_of,
    drawn,
    kernel_works,
)
from batchgen.engines.torch.continuous.forward.row_threads import Run, compute_runs
from batchgen.engines.torch.continuous.kv_store import (
    KVLayer,
    KVStoreSizes,
    SlotMapping,
    private_zeros,
)
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.planning.step_split import cut_evenly

_TILE_QUERIES = 24
"""Queries of a tile for each kv head: more would need scores that do not stay in the processor's cache."""

_BYTES_OF_A_THREAD = 2_000_000
"""Fewest bytes of keys and values that another thread reads: fewer are read by the first one before the other is awake."""

_MOST_HEADS = 16
"""Query heads per kv head: the kernel has separate code for each of them."""


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Where the keys and values of a step's tokens are.

    Attributes:
        pages, seen: those of `StepBatch`.
        plans: results of `tiles` and `runs`, cached for all layers.
    """

    pages: Tensor
    seen: Tensor
    plans: dict[object, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: StepBatch) -> "TokenLayout":
        return cls(batch.pages, batch.seen)

    def tiles(self, most: int, page_size: int) -> Tensor:
        """Tiles of at most so many tokens, int64 [tiles, 3]: first and last + 1 token, and the pages that they have in common.

        They have the same row or, with one token of each row, the same prefix.
        """
        key = "tiles", most, page_size
        if key not in self.plans:
            seen, first_pages = self.seen.tolist(), self.pages[:, 0].tolist()
            tiles: list[tuple[int, int, int]] = []
            # The new tokens of a prompt are consecutive tokens of one row; the same row is not decoded twice.
            keys = [
                (row if count > 1 else -1, first_pages[row] if shared else ~row)
                for (row, _, shared), count in zip(seen, self._tokens_of_rows(), strict=True)
            ]
            first = 0
            while first < len(seen):
                last = first + 1
                while last < min(first + most, len(seen)) and keys[last] == keys[first]:
                    last += 1
                _, count, shared = seen[last - 1]
                common = -(-shared // page_size)
                if keys[first][0] >= 0:
                    common += -(-(count - shared) // page_size)
                tiles.append((first, last, common))
                first = last
            self.plans[key] = torch.tensor(tiles)
        tensor: Tensor = self.plans[key]
        return tensor

    def runs(self, tiles: Tensor, threads: int, token_bytes: int) -> Sequence[Run]:
        """Runs of tiles with similar numbers of tokens, at most one for each thread: fewer if there is little to read."""
        key = len(tiles), threads, token_bytes
        if key not in self.plans:
            read = sum(self._seen_of(tiles)) * token_bytes
            self.plans[key] = self.even_runs(
                tiles, max(1, min(threads, read // _BYTES_OF_A_THREAD))
            )
        runs: Sequence[Run] = self.plans[key]
        return runs

    def even_runs(self, tiles: Tensor, parts: int) -> Sequence[Run]:
        """At most so many runs of tiles with similar numbers of tokens."""
        return cut_evenly(self._seen_of(tiles), parts)

    def _seen_of(self, tiles: Tensor) -> list[int]:
        """For each tile, the tokens to which its tokens attend."""
        done = [0, *accumulate(self.seen[:, 1].tolist())]
        return [done[last] - done[first] for first, last, _ in tiles.tolist()]

    def _tokens_of_rows(self) -> list[int]:
        """For each token, the number of tokens of its row."""
        rows = self.seen[:, 0]
        counts: list[int] = torch.bincount(rows)[rows].tolist()
        return counts


def most_tile_tokens(group: int) -> int:
    """Tokens of a tile, with so many query heads per kv head."""
    return max(1, _TILE_QUERIES // group)


def kernel_supports_attention(new: LayerQkv, layer: KVLayer) -> bool:
    """Whether the kernel computes attention in this layer."""
    q, rule = new.q, new.rule
    _, heads, width, size = layer.keys.shape
    return (
        q.device.type == "cpu"
        and q.dtype in NUMBERS
        and rule.plain
        and attention_works(q.shape[1] // heads, (width, layer.values.shape[3], size), q.dtype)
    )


def kernel_store(new: LayerQkv, layer: KVLayer, layout: TokenLayout) -> bool:
    """Store the new keys and values of a prefill; False if the kernel does not work here."""
    if not store_works(new.k.dtype):
        return False
    _store(new, layer, layout)
    return True


def _store(new: LayerQkv, layer: KVLayer, layout: TokenLayout) -> None:
    tensors = new.k, new.v, layer.keys, layer.values, layout.pages, layout.seen
    _put(NUMBERS[new.k.dtype])(*map(array_of, tensors))


def kernel_attention(
    new: LayerQkv, layer: KVLayer, layout: TokenLayout, *, stored: bool
) -> PartialAttention:
    """Attention of each token to the tokens of its row up to itself, and to its prefix; the result is in float32.

    The new keys and values are `stored` already, or stored here if each row has one token.
    """
    tokens, heads, _ = new.q.shape
    kv_heads, width, size = layer.keys.shape[1:]
    high, group = layer.values.shape[3], heads // kv_heads
    part = PartialAttention(torch.empty(tokens, heads, high), torch.empty(tokens, heads))
    kernel = _attention(group, (width, high, size), NUMBERS[new.q.dtype])
    tiles = layout.tiles(most_tile_tokens(group), size)
    fresh = (new.q, new.k[:0], new.v[:0]) if stored else (new.q, new.k, new.v)
    arrays = [
        array_of(tensor) for tensor in (*fresh, layer.keys, layer.values, layout.pages, layout.seen)
    ]
    of_tiles, values, mass = tiles.numpy(), part.values.numpy(), part.mass.numpy()

    def attend(first: int, last: int) -> None:
        kernel(*arrays, of_tiles[first:last], new.rule.scale, values, mass)

    token_bytes = new.k[0].nbytes + new.v[0].nbytes
    compute_runs(attend, layout.runs(tiles, torch.get_num_threads(), token_bytes))
    return part


# The kernel is imported at its first use: it needs numba, which may be missing.


@cache
def _attention(group: int, widths: tuple[int, int, int], number: str) -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import paged

    return paged.attend(group, widths, number)


@cache
def _put(number: str) -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import paged

    return paged.put(number)


@cache
def store_works(dtype: torch.dtype) -> bool:
    """Whether the kernel that stores keys and values works here: several times as fast as torch, page by page."""
    new, layer, layout = _case(1, (8, 8, 16), dtype)
    wanted = KVLayer(layer.keys.clone(), layer.values.clone())
    # The last tokens of the rows of the case, in the first place of a page or behind others.
    wanted.write(
        new.k, new.v, SlotMapping(torch.tensor([6, 1, 3, 4]), torch.tensor([2, 1, 13, 15]))
    )

    def compute() -> list[Tensor]:
        _store(new, layer, layout)
        return [layer.keys, layer.values]

    return kernel_works(("store", dtype), compute, [wanted.keys, wanted.values])


@cache
def attention_works(
    group: int, widths: tuple[int, int, int], dtype: torch.dtype = torch.float32
) -> bool:
    """Whether the kernel works here.

    Args:
        group: query heads per kv head.
        widths: numbers of a key and of a value, tokens of a page.
        dtype: of all of them.
    """
    if widths[1] % 4 or widths[2] % 4 or group > _MOST_HEADS:
        return False
    new, layer, layout = _case(group, widths, dtype)
    wanted = _by_torch(new, layer, layout)

    def compute() -> list[Tensor]:
        part = kernel_attention(new, layer, layout, stored=False)
        return [part.values, part.mass]

    return kernel_works(("attention", dtype), compute, [wanted.values, wanted.mass])


def _case(
    group: int, widths: tuple[int, int, int], dtype: torch.dtype
) -> tuple[LayerQkv, KVLayer, TokenLayout]:
    """Four rows, three of them with the same prefix in the first page."""
    heads, (width, high, size) = 2, widths
    shapes = ((4, group * heads, width), (4, heads, width), (4, heads, high))
    q, k, v = (drawn(*shape).to(dtype) for shape in shapes)
    new = LayerQkv(0, q, k, v, AttentionRule(width**-0.5))
    layer = KVLayer.like(new.k, new.v, KVStoreSizes(7, size, 0), private_zeros)
    for tensor in (layer.keys, layer.values):
        tensor.copy_(drawn(*tensor.shape))
    seen = [(0, size + 3, 0), (1, 5, 3), (2, 2 * size + 1, 3), (3, 3 + size, 3)]
    return (
        new,
        layer,
        TokenLayout(torch.tensor([[5, 6, 0], [0, 1, 0], [0, 2, 3], [0, 4, 0]]), torch.tensor(seen)),
    )


def _by_torch(new: LayerQkv, layer: KVLayer, layout: TokenLayout) -> PartialAttention:
    """The expected result, computed row by row; stores nothing."""
    parts, size = [], layer.keys.shape[3]
    for at, (row, count, shared) in enumerate(layout.seen.tolist()):
        of_prefix = -(-shared // size)
        seen = [
            layer.read(layout.pages[row, :of_prefix], shared),
            layer.read(layout.pages[row, of_prefix:], count - shared - 1),
            (new.k[at, :, None], new.v[at, :, None]),
        ]
        keys, values = (torch.cat(of, dim=1) for of in zip(*seen, strict=True))
        positions = torch.arange(count)
        attended = AttendedKeys(keys.float(), values.float(), positions)
        parts.append(past_attention(new.q[at, None].float(), attended, new.rule, positions[-1:]))
    return PartialAttention.concatenate(parts)
