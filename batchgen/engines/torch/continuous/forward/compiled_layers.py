"""All layers of a step in one kernel (`kernels/step_layers.py`), where all products are in tiles and attention is a kernel.

Python's part of a step of 48 rows takes 8 ms otherwise, and a thread that waits for products and one that attends would
compete for a processor.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchgen.engines.torch.continuous.forward.attention import AttentionRule
from batchgen.engines.torch.continuous.forward.kernel_check import kernel_works
from batchgen.engines.torch.continuous.forward.kernel_dispatch import (
    TokenLayout,
    attention_works,
    most_tile_tokens,
    store_works,
)
from batchgen.engines.torch.continuous.forward.products.tile_linear import TileLinear
from batchgen.engines.torch.continuous.forward.row_kernels import CompiledNorm, CompiledTurn
from batchgen.engines.torch.continuous.forward.row_threads import compute_runs
from batchgen.engines.torch.continuous.kv_store import KVStore
from batchgen.engines.torch.continuous.step import StepBatch
from batchgen.planning.kv_cache_plan import PAGE_TOKENS

_HALF = torch.bfloat16


@dataclass(frozen=True, slots=True)
class LayerParts:
    """What a layer computes with."""

    before_attention: CompiledNorm
    qkv: TileLinear
    turn: CompiledTurn
    out: TileLinear
    before_mlp: CompiledNorm
    gate: TileLinear
    up: TileLinear
    down: TileLinear
    rule: AttentionRule


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Numbers of a token: in the residual stream, in a head; query heads, kv heads; of the part between gate and down."""

    hidden: int
    width: int
    queries: int
    keys: int
    inner: int


class CompiledLayers:
    """Runs the layers and the head of a model."""

    def __init__(
        self, layers: Sequence[LayerParts], norm: CompiledNorm, head: TileLinear, shape: LayerShape
    ) -> None:
        """Use parts of layers that are all alike."""
        first = layers[0]
        self._shape, self._rule, self._normed = shape, first.rule, first.turn.normed
        self._head = head
        self._parts = layers
        self._eps = np.array([first.before_attention.eps, first.turn.eps], np.float32)
        self._table = np.array([_addresses(layer) for layer in layers], np.int64)
        self._ends = [norm.weight.data_ptr(), head.address, head.bias_address]
        # The kernel reads their memory by address.
        self._kept = norm

    @staticmethod
    def suits(store: KVStore) -> bool:
        """Whether the kernel reads pages of this size."""
        return store.sizes.page_size % 4 == 0

    def __call__(self, x: Tensor, waves: Tensor, batch: StepBatch, store: KVStore) -> Tensor:
        """Run a step from its embeddings, float32 [tokens, hidden]: float32 logits [drawn, vocab]."""
        shape, page, threads = self._shape, store.sizes.page_size, torch.get_num_threads()
        group, layout = shape.queries // shape.keys, TokenLayout.of(batch)
        tiles = layout.tiles(most_tile_tokens(group), page)
        runs = np.zeros((threads, 2), np.int64)
        even = layout.even_runs(tiles, threads)
        runs[: len(even)] = even
        logits, shared = torch.empty(len(batch.drawn), self._head.outputs), self._shared(len(x))
        memory = [x.contiguous(), *shared, logits]
        places = np.array([*self._ends, *(tensor.data_ptr() for tensor in memory)], np.int64)
        sizes = np.array(
            [shape.hidden, shape.queries, shape.keys, shape.inner, self._head.outputs, store.sizes.all_pages, page],
            np.int64,
        )  # fmt: skip
        counters = np.zeros((threads, 8), np.int64)
        arguments = (
            self._with_pages(store), places, sizes, self._eps, self._rule.scale, torch.view_as_real(waves).numpy(),
            batch.pages.numpy(), batch.seen.numpy(), tiles.numpy(), runs, batch.drawn.numpy(), counters,
        )  # fmt: skip
        kernel = _kernel(group, shape.width, normed=self._normed)

        def run(thread: int, _: int) -> None:
            with _released_on_error(counters):
                kernel(*arguments, thread)

        with _released_on_error(counters):
            compute_runs(run, [(thread, thread + 1) for thread in range(threads)])
        return logits

    def _shared(self, tokens: int) -> Sequence[Tensor]:
        """Memory in which threads exchange what they have computed."""
        shape = self._shape
        attended, keys = shape.queries * shape.width, shape.keys * shape.width
        return (
            torch.empty(tokens, shape.hidden),
            torch.empty(tokens, shape.hidden, dtype=_HALF),
            torch.empty(tokens, attended + 2 * keys, dtype=_HALF),
            torch.empty(tokens, attended),
            torch.empty(tokens, shape.queries),
            torch.empty(tokens, attended, dtype=_HALF),
            torch.empty(tokens, shape.inner, dtype=_HALF),
        )

    def _with_pages(self, store: KVStore) -> NDArray[np.int64]:
        """The addresses of the layers, with those of their keys and values in a store."""
        shape, table = self._shape, self._table.copy()
        like = torch.empty(0, shape.keys, shape.width, dtype=_HALF)
        for number, addresses in enumerate(table):
            layer = store.layer(number, like, like)
            addresses[-2:] = layer.keys.data_ptr(), layer.values.data_ptr()
        return table


@contextmanager
def _released_on_error(counters: NDArray[np.int64]) -> Iterator[None]:
    """Let threads end that would wait for one that was interrupted; their results are not used."""
    try:
        yield
    except BaseException:
        counters[:] = np.iinfo(np.int64).max
        raise


def compile_layers(
    layers: Sequence[object], norm: object, head: object, shape: LayerShape
) -> CompiledLayers | None:
    """The layers as one kernel; None if that computes no such layers, or does not work here.

    `layers`: objects with the attributes of `LayerParts`, of any types.
    """
    parts = [part for layer in layers if (part := _parts(layer)) is not None]
    if len(parts) < len(layers) or not isinstance(norm, CompiledNorm):
        return None
    if not isinstance(head, TileLinear) or len({_kind(part) for part in parts}) > 1:
        return None
    group, normed = shape.queries // shape.keys, parts[0].turn.normed
    suits = (
        parts[0].rule.plain
        and attention_works(group, (shape.width, shape.width, PAGE_TOKENS), _HALF)
        and store_works(_HALF)
        and layers_work(group, shape.width, normed=normed)
    )
    return CompiledLayers(parts, norm, head, shape) if suits else None


@cache
def layers_work(group: int, width: int, *, normed: bool) -> bool:
    """Whether the kernel can be compiled here. The parity probe compares its results with those of transformers."""

    def compute() -> list[Tensor]:
        _kernel(group, width, normed=normed)
        return []

    return kernel_works(("layers", _HALF), compute, [])


def _parts(layer: Any) -> LayerParts | None:  # noqa: ANN401  (parts of any types)
    norms = isinstance(layer.before_attention, CompiledNorm) and isinstance(
        layer.before_mlp, CompiledNorm
    )
    products = layer.qkv, layer.out, layer.gate, layer.up, layer.down
    if not norms or not isinstance(layer.turn, CompiledTurn):
        return None
    if not all(isinstance(product, TileLinear) for product in products):
        return None
    if layer.gate.bias_address or layer.up.bias_address:
        return None
    return LayerParts(
        layer.before_attention, layer.qkv, layer.turn, layer.out, layer.before_mlp, layer.gate, layer.up, layer.down,
        layer.rule,
    )  # fmt: skip


def _kind(part: LayerParts) -> tuple[object, ...]:
    """What all layers of a kernel have in common."""
    norms = part.before_attention, part.before_mlp
    return (*(norm.eps for norm in norms), part.turn.eps, part.turn.normed, part.rule)


def _addresses(part: LayerParts) -> list[int]:
    """A row of the kernel's table; the places of keys and values are empty."""
    return [
        part.before_attention.weight.data_ptr(),
        part.qkv.address,
        part.qkv.bias_address,
        part.turn.weights.data_ptr(),
        part.out.address,
        part.out.bias_address,
        part.before_mlp.weight.data_ptr(),
        part.gate.address,
        part.up.address,
        part.down.address,
        part.down.bias_address,
        0,
        0,
    ]


# The kernel is imported at its first use: it needs numba, which may be missing.


@cache
def _kernel(group: int, width: int, *, normed: bool) -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import step_layers

    return step_layers.run_layers(group, width, normed=normed)
