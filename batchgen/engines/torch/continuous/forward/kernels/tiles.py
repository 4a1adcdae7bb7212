"""Products of bfloat16 rows with a packed weight in the matrix unit (AMX), summed in float32.

    weight      [outputs / 32, terms / 32, 2, 16, 16, 2]: of each panel and block of 32 terms two tiles of 16 outputs,
                in which the two terms of a pair are adjacent
    rows        two tiles of at most sixteen at a time; the last ones overlap, so that all tiles of a product are alike

    registers   0 1     sums of the first rows with both halves of the panel        4 5    rows
                2 3     sums of the second rows                                     6 7    weight

A result is one chain of additions in the order of the blocks, computed by the same instructions whatever the number of rows: it
depends neither on other rows nor on threads. The panel that is used next is prefetched.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    called,
    fitted,
    inlined,
    kernel,
    prefetch,
)
from batchgen.engines.torch.continuous.forward.kernels.matmul import array_at, gated_number, pointer

PANEL = 32
"""Outputs of a panel."""
BLOCK = 32
"""Terms of a block: those of a tile."""
ROUNDED, WIDE, ADDED, GATED = range(4)
"""What is made of a product: bfloat16; float32; float32 plus other numbers; bfloat16, SiLU of it times that with another weight."""
_ROWS = 16
"""Most rows of a tile."""
_TILE, _STEP = 1024, 2048
"""Bytes of a tile of a weight, and of a block of a panel."""
_LINE = 64
_GROUP = 128
"""Rows for which a panel is used before it is used for more: their sums stay in the first-level cache."""
_CACHED = 2**20
"""Most bytes of rows that are used for all panels before the next ones are: they stay in the second-level cache."""

_WHOLE, _BYTE = ir.IntType(64), ir.IntType(8)
_POINTER = _BYTE.as_pointer()

_Sum = Callable[[int, int, int, int, int, int, int, int], None]


def _call(builder: Any, name: str, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(
        cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments
    )


def _moved(builder: Any, name: str, register: int, address: Any, step: Any) -> None:
    """Load or store a tile."""
    place = builder.inttoptr(address, _POINTER)
    _call(builder, name, _BYTE(register), place, step)


def _add_block(builder: Any, row_tiles: int, x: tuple[Any, Any, Any], panel: Any) -> None:
    """Add the products of one block of terms to the sums; x: address of the first rows, bytes to the second ones and from row to row."""
    left, second, x_step = x
    for half in range(2):
        place = builder.add(panel, _WHOLE(half * _TILE))
        _moved(builder, "tileloadd64", 6 + half, place, _WHOLE(_LINE))
    for number in range(row_tiles):
        place = builder.add(left, second) if number else left
        _moved(builder, "tileloadd64", 4 + number, place, x_step)
        for half in range(2):
            _call(builder, "tdpbf16ps", *map(_BYTE, (2 * number + half, 4 + number, 6 + half)))


def _prefetch_share(builder: Any, address: Any, share: Any) -> None:
    """Prefetch so many bytes, whole lines of a block."""
    for at in range(0, _STEP, _LINE):
        with builder.if_then(builder.icmp_signed(">", share, _WHOLE(at))):
            prefetch(builder, builder.add(address, _WHOLE(at)))


def _sums(row_tiles: int) -> _Sum:
    """Sums of one or two tiles of rows and a panel.

    The arguments: address of the rows; bytes from row to row; bytes from the first tile of rows to the second; address of the
    panel; blocks; address of the sums [rows, 32], at the first row; address of what to prefetch; bytes of it for each block.
    """

    @intrinsic
    def add(
        _typing: object, _a: object, _b: object, _c: object, _d: object, _e: object, _f: object, _g: object, _h: object
    ) -> object:  # fmt: skip
        def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> None:
            x, x_step, second, panel, blocks, sums, ahead, ahead_step = arguments
            sums_step = _WHOLE(PANEL * 4)
            for register in range(2 * row_tiles):
                _call(builder, "tilezero", _BYTE(register))
            with cgutils.for_range(builder, blocks) as loop:
                left = builder.add(x, builder.mul(loop.index, _WHOLE(_LINE)))
                right = builder.add(panel, builder.mul(loop.index, _WHOLE(_STEP)))
                _add_block(builder, row_tiles, (left, second, x_step), right)
                coming = builder.add(ahead, builder.mul(loop.index, ahead_step))
                _prefetch_share(builder, coming, ahead_step)
            lower = builder.sdiv(builder.mul(second, sums_step), x_step)
            for register in range(2 * row_tiles):
                place = builder.add(sums, lower) if register > 1 else sums
                at = builder.add(place, _WHOLE(register % 2 * 64))
                _moved(builder, "tilestored64", register, at, sums_step)

        return types.void(*[types.int64] * 8), generate

    return cast(_Sum, add)


_one_tile, _two_tiles = _sums(1), _sums(2)


@intrinsic
def _configure(_typing: object, _address: object = None) -> object:
    def generate(context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        _call(builder, "ldtilecfg", builder.inttoptr(arguments[0], _POINTER))
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def _release(_typing: object) -> object:
    def generate(context: Any, builder: Any, _signature: object, _arguments: object) -> object:
        _call(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), generate


configure: Callable[[int], None] = _configure
release = cast(Callable[[], None], _release)


@inlined
def _shape_tiles(rows: int) -> None:
    """Give all tiles of sums and rows so many rows."""
    shape = np.zeros(64, np.uint8)
    shape[0] = 1
    for register in range(8):
        shape[16 + 2 * register] = 64
        shape[48 + register] = rows if register < 6 else 16
    configure(shape.ctypes.data)


@called
def _panel(
    x: int, x_step: int, rows: int, panel: int, blocks: int, sums: int, ahead: int, share: int
) -> None:
    """Sums of a group of rows and a panel. Each pair of tiles prefetches `share` bytes for each block."""
    tile, row = min(rows, _ROWS), 0
    while row < rows:
        place, out = x + row * x_step, sums + row * PANEL * 4
        if row + tile < rows:
            second = min(tile, rows - tile - row)
            _two_tiles(place, x_step, second * x_step, panel, blocks, out, ahead, share)
            row += 2 * tile
        else:
            back = row + tile - rows
            place, out = place - back * x_step, out - back * PANEL * 4
            _one_tile(place, x_step, 0, panel, blocks, out, ahead, share)
            row += tile
        ahead += blocks * share


@inlined
def _add_bias(sums: Floats, bias: int, rows: int) -> None:
    if bias == 0:
        return
    once = array_at(pointer(bias), (1, PANEL), np.float32)
    for row in range(rows):
        for n in range(PANEL):
            sums[row, n] += once[0, n]


@inlined
def _finish_wide(sums: Floats, out: int, rows: int, outputs: int) -> None:
    made = array_at(pointer(out), (rows, outputs), np.float32)
    for row in range(rows):
        for n in range(PANEL):
            made[row, n] = sums[row, n]


@inlined
def _finish_added(sums: Floats, other: int, out: int, rows: int, outputs: int) -> None:
    made = array_at(pointer(out), (rows, outputs), np.float32)
    added = array_at(pointer(other), (rows, outputs), np.float32)
    for row in range(rows):
        for n in range(PANEL):
            made[row, n] = added[row, n] + sums[row, n]


@inlined
def _finish_rounded(sums: Floats, out: int, rows: int, outputs: int) -> None:
    made = array_at(pointer(out), (rows, outputs), np.int16)
    for row in range(rows):
        for n in range(PANEL):
            made[row, n] = fitted(sums[row, n], made)


@inlined
def _finish_gated(gate: Floats, up: Floats, out: int, rows: int, outputs: int) -> None:
    made = array_at(pointer(out), (rows, outputs), np.int16)
    for row in range(rows):
        for n in range(PANEL):
            made[row, n] = fitted(gated_number(gate[row, n], up[row, n]), made)


@inlined
def _finish(
    kind: int, sums: Floats, ups: Floats, other: int, out: int, rows: int, outputs: int
) -> None:
    """Make the results of a group of rows and a panel, of which `other` and `out` are the addresses of the first number."""
    if kind == ROUNDED:
        _finish_rounded(sums, out, rows, outputs)
    elif kind == WIDE:
        _finish_wide(sums, out, rows, outputs)
    elif kind == ADDED:
        _finish_added(sums, other, out, rows, outputs)
    else:
        _finish_gated(sums, ups, out, rows, outputs)


@inlined
def _shares(rows: int) -> int:
    """Among how many pairs of tiles the prefetching of a panel is shared: a power of two, so that a share is whole lines."""
    shares = 1
    while shares < 16 and shares * 2 * _ROWS * 2 <= rows + 2 * _ROWS - 1:
        shares *= 2
    return shares


@called
def compute_tiles(
    x: int, rows: int, terms: int, weight: int, ahead: int, other: int, bias: int, out: int, outputs: int, kind: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """The kernel `multiply_tiles`."""
    x_step, blocks = terms * 2, terms // BLOCK
    size, number_size = blocks * _STEP, 2 if kind in (ROUNDED, GATED) else 4
    sums, ups = np.empty((_GROUP, PANEL), np.float32), np.empty((_GROUP, PANEL), np.float32)
    pieces = -(-rows * x_step // _CACHED)
    piece = -(-rows // (pieces * _GROUP)) * _GROUP
    _shape_tiles(min(rows, _ROWS))
    for begin in range(0, rows, piece):  # noqa: PLR1702  pieces of rows, panels, groups of rows
        end = min(begin + piece, rows)
        # All tiles share the prefetching, since memory is slower than one of them.
        shares = _shares(end - begin)
        for number in range(first, last):
            panel, up = weight + number * size, other + number * size
            is_last = number + 1 == last
            coming, after = ahead if is_last else panel + size, 0 if is_last else up + size
            share = _STEP // shares if coming != 0 else 0
            then = _STEP // shares if after != 0 else 0
            for row in range(begin, end, _GROUP):
                # A group that is smaller than a tile begins earlier: its first rows are computed again, with the same result.
                start = min(row, max(0, rows - _ROWS))
                count = min(row + _GROUP, end) - start
                if row - begin >= shares * 2 * _ROWS:
                    share, then = 0, 0
                left, place = x + start * x_step, start * outputs + number * PANEL
                _panel(left, x_step, count, panel, blocks, sums.ctypes.data, coming, share)
                if kind == GATED:
                    _panel(left, x_step, count, up, blocks, ups.ctypes.data, after, then)
                _add_bias(sums, bias + number * PANEL * 4 if bias != 0 else 0, count)
                _finish(
                    kind, sums, ups, other + place * 4, out + place * number_size, count, outputs
                )
                coming += _GROUP // (2 * _ROWS) * blocks * share
                after += _GROUP // (2 * _ROWS) * blocks * then
    release()


def multiply_tiles() -> Callable[..., None]:
    """Compile the product.

    The arguments, in this order; all arrays are contiguous:
    x, rows, terms: address of bfloat16 [rows, terms]; the terms are a multiple of 32.
    weight: address of the packed weight.
    ahead: address of what is read next, 0 if unknown.
    other: address of float32 [rows, outputs] for `ADDED`, of another packed weight for `GATED`, otherwise 0.
    bias: address of float32 [outputs], 0 for none; not used by `GATED`.
    out, outputs: address of the result [rows, outputs], of bfloat16 or float32; not that of `other`.
    kind: one of `ROUNDED`, `WIDE`, `ADDED`, `GATED`.
    first, last: the first panel to compute, and the last + 1.
    """

    def product(
        x: int, rows: int, terms: int, weight: int, ahead: int, other: int, bias: int, out: int, outputs: int, kind: int,
        first: int, last: int,
    ) -> None:  # fmt: skip
        compute_tiles(
            x, rows, terms, weight, ahead, other, bias, out, outputs, kind, first, last
        )  # fmt: skip

    return kernel(f"void({', '.join(['int64'] * 12)})", product)
