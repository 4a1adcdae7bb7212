"""Products of float32 rows with a weight that oneDNN has packed, with the bits of oneDNN's own product.

    packed weight       [outputs / 64, terms, 64], each panel of 64 outputs in one piece
    a result            (x[0] w[0] + ... + x[b-1] w[b-1])  +  (x[b] w[b] + ...)  +  ...      in blocks of b terms

Within a block, a result is one chain of fused additions. oneDNN's `b` depends on the shape: `compiled_product.py` finds it.
Why not oneDNN: decoding reads each panel once, from memory, and it waits for it. Here the next panel is prefetched while
this one is used.
"""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    called,
    inlined,
    kernel,
    prefetch,
)

PANEL = 64
"""Outputs of a panel."""
_LANES, _VECTORS, _ROWS = 16, 4, 6
"""A tile is six rows and a panel: its sums fill 24 of the 32 registers of AVX-512."""
_LINE, _STEP = 64, PANEL * 4
"""Bytes of a cache line, and of a term of a panel."""
_WHOLE, _NUMBER = ir.IntType(64), ir.FloatType()
_VECTOR = ir.VectorType(_NUMBER, _LANES)

_Tile = Callable[[int, int, int, int, int, int, int, int], None]

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
        builder.load(_at(builder, panel, vector * _LINE, _VECTOR), align=4)
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
    """Sums of `count` rows and a panel, over a block of terms.

    The arguments: address of x and bytes from row to row; of the panel; of the results and bytes from row to row; terms; address
    of the panel to prefetch, 0 for none; 1 to add to the results, 0 to write them.
    """

    @intrinsic
    def add(
        _typing: object, _a: object, _b: object, _c: object, _d: object, _e: object, _f: object, _g: object,
        _h: object,
    ) -> object:  # fmt: skip
        def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> None:
            x, x_step, panel, out, out_step, terms, ahead, more = arguments
            numbers = [ir.Constant(_WHOLE, m) for m in range(count)]
            rows = [builder.add(x, builder.mul(x_step, m)) for m in numbers]
            outs = [builder.add(out, builder.mul(out_step, m)) for m in numbers]
            sums = [cgutils.alloca_once(builder, _VECTOR) for _ in range(count * _VECTORS)]
            for total in sums:
                builder.store(ir.Constant(_VECTOR, [0.0] * _LANES), total)
            nothing = ir.Constant(_WHOLE, 0)
            with cgutils.for_range(builder, terms) as loop:
                offset = builder.mul(loop.index, ir.Constant(_WHOLE, _STEP))
                with builder.if_then(builder.icmp_signed("!=", ahead, nothing)):
                    for vector in range(_VECTORS):
                        line = builder.add(offset, ir.Constant(_WHOLE, vector * _LINE))
                        prefetch(builder, builder.add(ahead, line))
                _add_terms(builder, rows, builder.add(panel, offset), sums, loop.index)
            places = [
                _at(builder, one, vector * _LINE, _VECTOR)
                for one in outs
                for vector in range(_VECTORS)
            ]
            with builder.if_else(builder.icmp_signed("!=", more, nothing)) as (added, written):
                with added:
                    for place, total in zip(places, sums, strict=True):
                        both = builder.fadd(builder.load(place, align=4), builder.load(total))
                        builder.store(both, place, align=4)
                with written:
                    for place, total in zip(places, sums, strict=True):
                        builder.store(builder.load(total), place, align=4)

        return types.void(*[types.int64] * 8), generate

    return cast(_Tile, add)


_one, _two, _three, _four, _five, _six = (_tile(count) for count in range(1, _ROWS + 1))


@called
def _few_rows(
    x: int, x_step: int, panel: int, out: int, out_step: int, shape: tuple[int, int, int],
    ahead: int,
) -> None:  # fmt: skip
    """At most six rows with a panel; the shape is rows, terms, and terms of a block."""
    rows, terms, block = shape
    for first in range(0, terms, block):
        count, more = min(block, terms - first), 1 if first > 0 else 0
        left, right = x + first * 4, panel + first * _STEP
        coming = ahead + first * _STEP if ahead != 0 else 0
        if rows == 6:
            _six(left, x_step, right, out, out_step, count, coming, more)
        elif rows == 5:
            _five(left, x_step, right, out, out_step, count, coming, more)
        elif rows == 4:
            _four(left, x_step, right, out, out_step, count, coming, more)
        elif rows == 3:
            _three(left, x_step, right, out, out_step, count, coming, more)
        elif rows == 2:
            _two(left, x_step, right, out, out_step, count, coming, more)
        else:
            _one(left, x_step, right, out, out_step, count, coming, more)


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
def _gated(gate: np.float32, up: np.float32) -> np.float32:
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


@inlined
def _add_tile(to: Floats, out: Floats, rows: tuple[int, int], column: int) -> None:
    """Add to the results of a tile; `rows`: the first one and their number."""
    for row in range(rows[0], rows[0] + rows[1]):
        for n in range(column, column + PANEL):
            out[row, n] += to[row, n]


@inlined
def _gate_tile(gate: Floats, out: Floats, rows: tuple[int, int], column: int) -> None:
    """Multiply the results of a tile by SiLU of `gate` [rows, 64]; `rows`: the first one and their number."""
    for row in range(rows[1]):
        for n in range(PANEL):
            at = rows[0] + row, column + n
            out[at] = _gated(gate[row, n], out[at])


def gate_rows() -> Callable[..., None]:
    """Compile SiLU of `gate` times `up`, into `up`: float32 [rows, width]."""

    def gated(gate: Floats, up: Floats) -> None:
        for row in range(len(up)):
            for n in range(up.shape[1]):
                up[row, n] = _gated(gate[row, n], up[row, n])

    return kernel("void(float32[:,::1], float32[:,::1])", gated)


def multiply() -> Callable[..., None]:
    """Compile the product.

    The arguments, in this order:
    x: float32 [rows, terms].
    weight: address of the packed weight.
    ahead: address of what is read next, 0 if unknown.
    block: terms of a block.
    to: float32 [rows, outputs], added to the result; empty for nothing.
    out: float32 [rows, outputs], the result.
    """

    def product(x: Floats, weight: int, ahead: int, block: int, to: Floats, out: Floats) -> None:
        rows, terms = x.shape
        outputs = out.shape[1]
        size = terms * _STEP
        for column in range(0, outputs, PANEL):
            panel = weight + column // PANEL * size
            coming = panel + size if column + PANEL < outputs else ahead
            for row in range(0, rows, _ROWS):
                count = min(_ROWS, rows - row)
                place = x.ctypes.data + row * terms * 4
                result = out.ctypes.data + (row * outputs + column) * 4
                shape = count, terms, block
                _few_rows(place, terms * 4, panel, result, outputs * 4, shape, coming)
                coming = 0
                if len(to) > 0:
                    _add_tile(to, out, (row, count), column)

    return kernel(
        "void(float32[:,::1], int64, int64, int64, float32[:,::1], float32[:,::1])", product
    )


def multiply_gated() -> Callable[..., None]:
    """Compile SiLU of one product times another; the arguments are those of `multiply`, with the address of either weight, without `to`."""

    def gated(x: Floats, gate: int, up: int, ahead: int, block: int, out: Floats) -> None:
        rows, terms = x.shape
        outputs = out.shape[1]
        size = terms * _STEP
        scratch = np.empty((_ROWS, PANEL), np.float32)
        for column in range(0, outputs, PANEL):
            panels = column // PANEL * size
            first, second = gate + panels, up + panels
            last = column + PANEL >= outputs
            coming, other = (ahead, 0) if last else (first + size, second + size)
            for row in range(0, rows, _ROWS):
                shape = min(_ROWS, rows - row), terms, block
                place = x.ctypes.data + row * terms * 4
                result = out.ctypes.data + (row * outputs + column) * 4
                _few_rows(place, terms * 4, first, scratch.ctypes.data, _STEP, shape, coming)
                _few_rows(place, terms * 4, second, result, outputs * 4, shape, other)
                coming, other = 0, 0
                _gate_tile(scratch, out, (row, shape[0]), column)

    return kernel("void(float32[:,::1], int64, int64, int64, int64, float32[:,::1])", gated)
