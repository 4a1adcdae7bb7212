"""All layers of a step in one kernel, for products of bfloat16 in tiles: one call for each thread, and no Python in between.

    norm | queries, keys, values | rotary, store | attention | out + residual | norm | gate times up | down + residual

Threads compute shares of the rows, or of the outputs of a product, and wait for each other at each `|`. They look at each
other's counters without sleeping, since a part takes microseconds.

    counters    int64 [threads, 8]: of each thread, in a cache line of its own, the parts that it has computed
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    Ints,
    fitted,
    inlined,
    kernel,
)
from batchgen.engines.torch.continuous.forward.kernels.matmul import pointer
from batchgen.engines.torch.continuous.forward.kernels.norm import normalize
from batchgen.engines.torch.continuous.forward.kernels.paged import attend_tiles, put_tokens
from batchgen.engines.torch.continuous.forward.kernels.product import lanes_of
from batchgen.engines.torch.continuous.forward.kernels.rotary import turn_heads
from batchgen.engines.torch.continuous.forward.kernels.team import load, pause, store
from batchgen.engines.torch.continuous.forward.kernels.tiles import (
    ADDED,
    GATED,
    PANEL,
    ROUNDED,
    WIDE,
    compute_tiles,
)

NORM, QKV, QKV_BIAS, TURN, OUT, OUT_BIAS, MLP_NORM, GATE, UP, DOWN, DOWN_BIAS, KEYS, VALUES = range(
    13
)
"""Columns of `layers`: addresses; 0 where there is no bias."""
(
    FINAL_NORM,
    HEAD,
    HEAD_BIAS,
    X,
    Y,
    NORMED,
    FUSED,
    ATTENDED,
    MASS,
    ROUNDED_ATTENDED,
    INNER,
    LOGITS,
) = range(12)
"""Places in `places`: addresses of the last weights, then of what the threads share."""
HIDDEN, QUERIES, KV_HEADS, MIDDLE, VOCABULARY, PAGES, PAGE_SIZE = range(7)
"""Places in `sizes`."""
COUNTER = 8
_LOOKS = 2000
"""Looks before a thread lets other programs run: about 0.1 ms."""


@intrinsic
def _yield(_typing: object) -> object:
    def generate(context: Any, builder: Any, _signature: object, _arguments: object) -> object:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


array_at = cast(Callable[[object, tuple[int, ...], object], Any], carray)
let_others_run = cast(Callable[[], None], _yield)


@inlined
def _wait(counters: Ints, thread: int, done: int) -> int:
    """Wait until all threads have computed one more part than `done`; returns how many that are."""
    address = counters.ctypes.data
    store(address, thread * COUNTER, done + 1)
    for other in range(len(counters)):
        looks = 0
        while load(address, other * COUNTER) <= done:
            looks += 1
            if looks < _LOOKS:
                pause()
            else:
                let_others_run()
    return done + 1


def run_layers(  # noqa: C901, PLR0915  the story of a step
    group: int, width: int, *, normed: bool
) -> Callable[..., None]:
    """Compile the layers of a model with `group` query heads per kv head, each of `width` numbers.

    `normed`: whether heads have norms before their rotary embedding. The arguments of the kernel, in this order:
        layers: int64 [layers, columns], addresses, see `NORM`.
        places: int64, see `FINAL_NORM`.
        sizes: int64, see `HIDDEN`.
        eps: float32 [2], of norms of rows and of heads.
        scale: float32, of the scores.
        waves: float32 [tokens, width / 2, 2], cosine and sine.
        pages, tokens, tiles: those of `paged.attend`.
        runs: int64 [threads, 2], the first tile of each thread, and the last + 1.
        drawn: int64, the tokens whose logits are computed; none: only keys and values.
        counters: int64 [threads, 8], zeros.
        thread: the number of this thread.
    """
    value_lanes = lanes_of(width)

    def run(  # noqa: C901, PLR0912, PLR0915  the same
        layers: Ints, places: Ints, sizes: Ints, eps: Floats, scale: np.float32, waves: Floats, pages: Ints, tokens: Ints,
        tiles: Ints, runs: Ints, drawn: Ints, counters: Ints, thread: int,
    ) -> None:  # fmt: skip
        hidden, heads, kv_heads, inner = (
            sizes[HIDDEN],
            sizes[QUERIES],
            sizes[KV_HEADS],
            sizes[MIDDLE],
        )
        count, threads, done = len(tokens), len(counters), 0
        fused, attended_width = (heads + 2 * kv_heads) * width, heads * width
        x_place, y_place = places[X], places[Y]
        x = array_at(pointer(x_place), (count, hidden), np.float32)
        normal = array_at(pointer(places[NORMED]), (count, hidden), np.int16)
        qkv = array_at(pointer(places[FUSED]), (count, heads + 2 * kv_heads, width), np.int16)
        attended = array_at(pointer(places[ATTENDED]), (count, heads, width), np.float32)
        mass = array_at(pointer(places[MASS]), (count, heads), np.float32)
        rounded = array_at(pointer(places[ROUNDED_ATTENDED]), (count, attended_width), np.int16)
        page = sizes[PAGE_SIZE]
        # As `lanes_of`, which is not compiled.
        key_lanes = 16 if page % 16 == 0 else 8 if page % 8 == 0 else 4
        begin, end = count * thread // threads, count * (thread + 1) // threads
        first_tile, last_tile = runs[thread]
        for number in range(len(layers)):  # noqa: PLR1702  the same
            layer = layers[number]
            last = number == len(layers) - 1
            weight = array_at(pointer(layer[NORM]), (hidden,), np.float32)
            normalize(x[begin:end], weight, eps[0], normal[begin:end])
            done = _wait(counters, thread, done)

            panels = fused // PANEL
            compute_tiles(
                places[NORMED], count, hidden, layer[QKV], layer[OUT], 0, layer[QKV_BIAS], places[FUSED], fused, ROUNDED,
                panels * thread // threads, panels * (thread + 1) // threads,
            )  # fmt: skip
            done = _wait(counters, thread, done)

            turned = array_at(pointer(layer[TURN]), (heads + kv_heads, width), np.float32)
            turn_heads(qkv[begin:end], turned, eps[1], waves[begin:end], normed)
            keys = array_at(pointer(layer[KEYS]), (sizes[PAGES], kv_heads, width, page), np.int16)
            values = array_at(
                pointer(layer[VALUES]), (sizes[PAGES], kv_heads, page, width), np.int16
            )
            put_tokens(
                qkv[begin:end, heads : heads + kv_heads], qkv[begin:end, heads + kv_heads :], keys, values, pages,
                tokens[begin:end],
            )  # fmt: skip
            if last and len(drawn) == 0:
                return
            done = _wait(counters, thread, done)

            if first_tile < last_tile:
                attend_tiles(
                    group, (width, width, key_lanes, value_lanes), qkv[:, :heads], qkv[:0, :kv_heads], qkv[:0, :kv_heads],
                    keys, values, pages, tokens, tiles[first_tile:last_tile], scale, attended, mass,
                )  # fmt: skip
                for token in range(tiles[first_tile, 0], tiles[last_tile - 1, 1]):
                    for head in range(heads):
                        for n in range(width):
                            rounded[token, head * width + n] = fitted(
                                attended[token, head, n], rounded
                            )
            done = _wait(counters, thread, done)

            # After the last keys and values, only tokens with needed logits are computed.
            if last and len(drawn) < count:
                count = len(drawn)
                begin, end = count * thread // threads, count * (thread + 1) // threads
                kept = array_at(pointer(places[FUSED]), (count, attended_width), np.int16)
                residual = array_at(pointer(y_place), (count, hidden), np.float32)
                for row in range(begin, end):
                    kept[row] = rounded[drawn[row]]
                    residual[row] = x[drawn[row]]
                x_place, y_place = y_place, x_place
                attended_place = places[FUSED]
                done = _wait(counters, thread, done)
            else:
                attended_place = places[ROUNDED_ATTENDED]

            panels = hidden // PANEL
            compute_tiles(
                attended_place, count, attended_width, layer[OUT], layer[GATE], x_place, layer[OUT_BIAS], y_place, hidden,
                ADDED, panels * thread // threads, panels * (thread + 1) // threads,
            )  # fmt: skip
            done = _wait(counters, thread, done)

            y = array_at(pointer(y_place), (count, hidden), np.float32)
            weight = array_at(pointer(layer[MLP_NORM]), (hidden,), np.float32)
            normalize(y[begin:end], weight, eps[0], normal[begin:end])
            done = _wait(counters, thread, done)

            panels = inner // PANEL
            compute_tiles(
                places[NORMED], count, hidden, layer[GATE], layer[DOWN], layer[UP], 0, places[INNER], inner, GATED,
                panels * thread // threads, panels * (thread + 1) // threads,
            )  # fmt: skip
            done = _wait(counters, thread, done)

            panels = hidden // PANEL
            coming = places[HEAD] if last else layers[number + 1, QKV]
            compute_tiles(
                places[INNER], count, inner, layer[DOWN], coming, y_place, layer[DOWN_BIAS], x_place, hidden, ADDED,
                panels * thread // threads, panels * (thread + 1) // threads,
            )  # fmt: skip
            done = _wait(counters, thread, done)

        weight = array_at(pointer(places[FINAL_NORM]), (hidden,), np.float32)
        x = array_at(pointer(x_place), (count, hidden), np.float32)
        normalize(x[begin:end], weight, eps[0], normal[begin:end])
        done = _wait(counters, thread, done)
        panels = sizes[VOCABULARY] // PANEL
        compute_tiles(
            places[NORMED], count, hidden, places[HEAD], layers[0, QKV], 0, places[HEAD_BIAS], places[LOGITS],
            sizes[VOCABULARY], WIDE, panels * thread // threads, panels * (thread + 1) // threads,
        )  # fmt: skip

    return kernel(
        "void(int64[:,::1], int64[::1], int64[::1], float32[::1], float32, float32[:,:,::1], int64[:,::1], int64[:,::1],"
        " int64[:,::1], int64[:,::1], int64[::1], int64[:,::1], int64)",
        run,
    )
