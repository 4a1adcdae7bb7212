"""Products of float32 rows with a packed weight: [outputs / panel, terms, panel], each panel in one piece.

    AVX-512     a tile is at most twelve rows and a panel of 32 outputs: its sums fill 24 of 32 registers
    AVX2        a tile is at most six rows and a panel of 16 outputs: 12 of 16 registers

A result is one chain of fused additions, in the order of the terms: it depends neither on other rows nor on threads.
The panel that is used next is prefetched, since decoding reads each one once, from memory.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import binding, ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    called,
    inlined,
    kernel,
    prefetch,
)

_WIDE: bool = binding.get_host_cpu_features().get("avx512f", False)
_LANES, _VECTORS = (16 if _WIDE else 8), 2
"""Numbers in a register, and registers for the sums of a row."""
PANEL = _LANES * _VECTORS
"""Outputs of a panel."""
_TILES = (12, 8, 4, 3, 2, 1) if _WIDE else (6, 5, 4, 3, 2, 1)
"""Rows of tiles."""
_LINE, _STEP = 64, PANEL * 4
"""Bytes of a cache line, and of a term of a panel."""
_PIECE = 2**18 // _STEP
"""Terms that are used for a group of rows before the next ones are: 256 KiB of a panel, which stay in the second-level cache."""
_GROUP = 96
"""Rows for which a panel is used before it is used for more."""
_WHOLE, _NUMBER = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_NUMBER, _LANES)

_Tile = Callable[[int, int, int, int, int, int, int, int, bool], None]

_FLOAT = np.float32
_ONE = _FLOAT(1)
_LOG2_E = _FLOAT(1 / math.log(2))
_E1, _E2, _E3, _E4, _E5, _E6, _E7 = (
    _FLOAT(math.log(2) ** n / math.factorial(n)) for n in range(1, 8)
)
"""Taylor series of 2**x, as in `softmax.py`."""
_MOST_POWER = _FLOAT(126)
_SHIFT = _MOST_POWER + _FLOAT(0.5)
"""Makes a power positive, so that it is rounded to the nearest whole number by cutting its fraction."""


def _at(builder: Any, address: Any, offset: int, kind: Any) -> Any:
    moved = builder.add(address, ir.Constant(_WHOLE, offset))
    return builder.inttoptr(moved, kind.as_pointer())


def _repeated(builder: Any, number: Any) -> Any:
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
    )


def _add_terms(builder: Any, rows: list[Any], panel: Any, sums: list[Any], index: Any) -> None:
    """Add one term to the sums, row by row."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{_LANES}f32")
    right = [
        builder.load(_at(builder, panel, vector * _LANES * 4, _VECTOR), align=4)
        for vector in range(_VECTORS)
    ]
    offset = builder.mul(index, ir.Constant(_WHOLE, 4))
    for number, row in enumerate(rows):
        place = builder.inttoptr(builder.add(row, offset), _NUMBER.as_pointer())
        left = _repeated(builder, builder.load(place, align=4))
        for vector in range(_VECTORS):
            total = sums[number * _VECTORS + vector]
            builder.store(builder.call(fused, [left, right[vector], builder.load(total)]), total)


def _tile(count: int) -> _Tile:
    """Sums of `count` rows and a panel.

    The arguments: address of x and bytes from row to row; of the panel; of the results and bytes from row to row; terms; address
    of what to prefetch; bytes of it for each term, 0 for nothing; whether sums begin with the results that are there.
    """

    @intrinsic
    def add(
        _typing: object, _a: object, _b: object, _c: object, _d: object, _e: object, _f: object, _g: object,
        _h: object, _i: object,
    ) -> object:  # fmt: skip
        def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> None:
            x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued = arguments
            numbers = [ir.Constant(_WHOLE, m) for m in range(count)]
            rows = [builder.add(x, builder.mul(x_step, m)) for m in numbers]
            places = [
                _at(builder, builder.add(out, builder.mul(out_step, m)), n * _LANES * 4, _VECTOR)
                for m in numbers
                for n in range(_VECTORS)
            ]
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in places]
            with builder.if_else(continued) as (more, begun):
                with more:
                    for place, total in zip(places, sums, strict=True):
                        builder.store(builder.load(place, align=4), total)
                with begun:
                    for total in sums:
                        builder.store(ir.Constant(_VECTOR, [0.0] * _LANES), total)
            with cgutils.for_range(builder, terms) as loop:
                offset = builder.mul(loop.index, ir.Constant(_WHOLE, _STEP))
                coming = builder.add(ahead, builder.mul(loop.index, ahead_step))
                for line in range(0, _STEP, _LINE):
                    at = ir.Constant(_WHOLE, line)
                    with builder.if_then(builder.icmp_signed(">", ahead_step, at)):
                        prefetch(builder, builder.add(coming, at))
                _add_terms(builder, rows, builder.add(panel, offset), sums, loop.index)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place, align=4)

        return types.void(*[types.int64] * 8, types.boolean), generate

    return cast(_Tile, add)


_A, _B, _C, _D, _E = _TILES[:-1]
_a, _b, _c, _d, _e, _one = (_tile(count) for count in _TILES)


@called
def _first_rows(
    rows: int, x: int, x_step: int, panel: int, out: int, out_step: int, terms: int, ahead: int,
    ahead_step: int, continued: bool,
) -> int:  # fmt: skip
    """Compute the largest tile of some rows, and return its rows; the other arguments are those of a tile."""
    done = 1
    if rows >= _A:
        _a(x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued)
        done = _A
    elif rows >= _B:
        _b(x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued)
        done = _B
    elif rows >= _C:
        _c(x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued)
        done = _C
    elif rows >= _D:
        _d(x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued)
        done = _D
    elif rows >= _E:
        _e(x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued)
        done = _E
    else:
        _one(x, x_step, panel, out, out_step, terms, ahead, ahead_step, continued)
    return done


@called
def _panel(x: int, panel: int, out: int, out_step: int, shape: tuple[int, int], ahead: int) -> None:
    """A group of rows with a panel; the shape is rows and terms."""
    rows, terms = shape
    # Memory is slower than a tile: the first ones share the prefetching.
    sharing = 4 if rows > 3 * _A else 2 if rows > _A else 1
    step = _STEP // sharing
    for begin in range(0, terms, _PIECE):
        count, place = min(_PIECE, terms - begin), panel + begin * _STEP
        coming, coming_step = ahead + begin * _STEP, step if ahead != 0 else 0
        row, shares = 0, sharing
        while row < rows:
            left, result = x + (row * terms + begin) * 4, out + row * out_step
            row += _first_rows(
                rows - row, left, terms * 4, place, result, out_step, count, coming, coming_step,
                begin > 0,
            )  # fmt: skip
            coming += count * step
            shares -= 1
            if shares == 0:
                coming_step = 0


@intrinsic
def _power(_typing: object, _exponent: object = None) -> object:
    """2 to the power of an int32, from -126 to 127."""

    def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        kind = ir.IntType(32)
        bits = builder.shl(builder.add(arguments[0], kind(127)), kind(23))
        return builder.bitcast(bits, _NUMBER)

    return types.float32(types.int32), generate


power: Callable[[np.int32], np.float32] = _power


@njit(inline="always", error_model="numpy", fastmath={"contract"})  # sums in the order written
def gated_number(gate: np.float32, up: np.float32) -> np.float32:
    """`up` times SiLU of `gate`."""
    x = -gate * _LOG2_E
    x = _MOST_POWER if x > _MOST_POWER else x
    x = -_MOST_POWER if x < -_MOST_POWER else x
    whole = np.int32(x + _SHIFT) - np.int32(_MOST_POWER)
    f = x - _FLOAT(whole)
    series = _E3 + f * (_E4 + f * (_E5 + f * (_E6 + f * _E7)))
    exponential = (_ONE + f * (_E1 + f * (_E2 + f * series))) * power(whole)
    # NaN stays NaN: the limits above would hide it.
    result: np.float32 = gate / (_ONE + exponential) * up
    return result


@intrinsic
def _pointer(_typing: object, _address: object = None) -> object:
    def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


pointer: Callable[[int], object] = _pointer
array_at = cast(Callable[[object, tuple[int, int], object], Floats], carray)


@inlined
def _add_tile(to: int, out: int, rows: int, outputs: int) -> None:
    """Add to a panel of the results, by the addresses of its first number."""
    added = array_at(pointer(to), (rows, outputs), np.float32)
    made = array_at(pointer(out), (rows, outputs), np.float32)
    for row in range(rows):
        for n in range(PANEL):
            made[row, n] += added[row, n]


@inlined
def _gate_tile(gate: Floats, out: int, rows: int, outputs: int) -> None:
    """Multiply a panel of the results by SiLU of `gate` [rows, panel]."""
    made = array_at(pointer(out), (rows, outputs), np.float32)
    for row in range(rows):
        for n in range(PANEL):
            made[row, n] = gated_number(gate[row, n], made[row, n])


@called
def compute_product(
    x: int, rows: int, terms: int, weight: int, ahead: int, to: int, out: int, outputs: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """The kernel `multiply`."""
    width, size = outputs * 4, terms * _STEP
    for number in range(first, last):
        panel = weight + number * size
        coming = panel + size if number + 1 < last else ahead
        for row in range(0, rows, _GROUP):
            count, place = min(_GROUP, rows - row), row * width + number * _STEP
            _panel(x + row * terms * 4, panel, out + place, width, (count, terms), coming)
            coming = 0
            if to != 0:
                _add_tile(to + place, out + place, count, outputs)


@called
def compute_gated(
    x: int, rows: int, terms: int, gate: int, ahead: int, up: int, out: int, outputs: int,
    first: int, last: int,
) -> None:  # fmt: skip
    """The kernel `multiply_gated`."""
    width, size = outputs * 4, terms * _STEP
    scratch = np.empty((min(_GROUP, rows), PANEL), np.float32)
    for number in range(first, last):
        one, other = gate + number * size, up + number * size
        coming, after = (one + size, other + size) if number + 1 < last else (ahead, 0)
        for row in range(0, rows, _GROUP):
            count, place = min(_GROUP, rows - row), row * width + number * _STEP
            left, shape = x + row * terms * 4, (count, terms)
            _panel(left, one, scratch.ctypes.data, _STEP, shape, coming)
            _panel(left, other, out + place, width, shape, after)
            coming, after = 0, 0
            _gate_tile(scratch, out + place, count, outputs)


_NUMBERS = "void(int64, int64, int64, int64, int64, int64, int64, int64, int64, int64)"


def multiply() -> Callable[..., None]:
    """Compile the product.

    The arguments, in this order; all arrays are contiguous float32:
    x, rows, terms: address of [rows, terms].
    weight: address of [panels, terms, outputs of a panel].
    ahead: address of what is read next, 0 if unknown.
    to: address of what is added to the result, 0 for nothing.
    out, outputs: address of the result [rows, outputs].
    first, last: the first panel to compute, and the last + 1.
    """

    def product(
        x: int, rows: int, terms: int, weight: int, ahead: int, to: int, out: int, outputs: int,
        first: int, last: int,
    ) -> None:  # fmt: skip
        compute_product(x, rows, terms, weight, ahead, to, out, outputs, first, last)

    return kernel(_NUMBERS, product)


def multiply_gated() -> Callable[..., None]:
    """Compile SiLU of one product times another: as `multiply`, with the address of the second weight for `to`."""

    def gated(
        x: int, rows: int, terms: int, gate: int, ahead: int, up: int, out: int, outputs: int,
        first: int, last: int,
    ) -> None:  # fmt: skip
        compute_gated(x, rows, terms, gate, ahead, up, out, outputs, first, last)

    return kernel(_NUMBERS, gated)
