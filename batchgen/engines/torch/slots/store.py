"""Keys and values of all layers, in pages; and of shared prefixes, in one piece.

    keys    [pages, kv heads, key width, page size]     a page's keys lie transposed: decode reads them by width
    values  [pages, kv heads, page size, value width]

Knows nothing of rows: it is told where tokens go. Works on any device; a page is only touched when it is used, so on
Linux memory that no row ever needed costs nothing.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from batchgen.engines.torch.slots.scheduler import Prefix


@dataclass(frozen=True, slots=True)
class Places:
    """Where the new tokens of a step go: page and place in the page, int64 [tokens]."""

    pages: Tensor
    offsets: Tensor


@dataclass(slots=True)
class LayerPages:
    """One layer's keys and values of all pages."""

    keys: Tensor
    values: Tensor

    def write(self, keys: Tensor, values: Tensor, places: Places) -> None:
        """Store new tokens.

        Args:
            keys: [tokens, kv heads, key width].
            values: [tokens, kv heads, value width].
            places: of these tokens.
        """
        heads = torch.arange(keys.shape[1], device=keys.device)[None]
        page, offset = places.pages[:, None], places.offsets[:, None]
        self.keys[page, heads, :, offset] = keys
        self.values[page, heads, offset] = values

    def read(self, pages: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """The first tokens of a row, copied: keys and values [kv heads, tokens, width]."""
        keys = self.keys[pages].permute(1, 0, 3, 2).flatten(1, 2)
        values = self.values[pages].transpose(0, 1).flatten(1, 2)
        # Of a single page this is a view with keys still transposed, which fused attention misreads.
        return keys.contiguous()[:, :tokens], values[:, :tokens]


@dataclass(slots=True)
class PrefixLayer:
    """One layer's keys and values of a prefix: [kv heads, tokens, width]."""

    keys: Tensor
    values: Tensor

    def write(self, keys: Tensor, values: Tensor, start: int) -> None:
        """Store tokens from `start` on: keys and values [tokens, kv heads, width]."""
        end = start + len(keys)
        self.keys[:, start:end] = keys.transpose(0, 1)
        self.values[:, start:end] = values.transpose(0, 1)


@dataclass(slots=True)
class Store:
    """All layers. Made before the first forward; a layer takes shape when it is first written."""

    pages: int
    page_size: int
    layers: dict[int, LayerPages] = field(default_factory=dict)
    prefixes: dict[Prefix, dict[int, PrefixLayer]] = field(default_factory=dict)

    def layer(self, number: int, keys: Tensor, values: Tensor) -> LayerPages:
        """The pages of a layer whose new tokens look like these."""
        if number not in self.layers:
            heads, wide, high = keys.shape[1], keys.shape[2], values.shape[2]
            self.layers[number] = LayerPages(
                _zeros((self.pages, heads, wide, self.page_size), keys),
                _zeros((self.pages, heads, self.page_size, high), values),
            )
        return self.layers[number]

    def prefix(self, prefix: Prefix, number: int, keys: Tensor, values: Tensor) -> PrefixLayer:
        """The layer of a prefix whose tokens look like these."""
        layers = self.prefixes.setdefault(prefix, {})
        if number not in layers:
            tokens = len(prefix.token_ids)
            layers[number] = PrefixLayer(
                *(t.new_zeros((t.shape[1], tokens, t.shape[2])) for t in (keys, values))
            )
        return layers[number]

    def forget_prefixes(self) -> None:
        """Drop prefixes that no row needs any more."""
        for prefix in [p for p in self.prefixes if p.users == 0]:
            del self.prefixes[prefix]

    def clear(self, pages: list[int]) -> None:
        """Overwrite pages with zeros: a row with NaN in them has left, and weight 0 times NaN is NaN."""
        for layer in self.layers.values():
            layer.keys[pages] = 0
            layer.values[pages] = 0


def _zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros that cost no memory until they are written, where the system can do that."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    size = int(np.prod(shape)) * like.element_size()
    return torch.from_numpy(np.zeros(size, dtype=np.uint8)).view(like.dtype).view(shape)
