"""Small products in which each result is one chain of additions, whatever else is computed with it.

    c[m, n]  =  c[m, n] + a[m, 0] b[0, n] + a[m, 1] b[1, n] + ...        from left to right

So the bits of a result depend neither on the number of rows and columns nor on further terms that are 0. While b is read,
another block of memory is prefetched.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Ints,
    Numbers,
    called,
    fetch,
    inlined,
    prefetch,
)

Whole = int | np.int64
Shape = tuple[Whole, Whole, Whole]
LINE = 64
"""Bytes of a cache line."""

_WHOLE, _NUMBER, _STORED = ir.IntType(64), ir.FloatType(), ir.IntType(16)

_Lines = tuple[Whole, Whole, Whole, Whole]
_Add = Callable[
    [Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Numbers], None
]


def _place(builder: Any, base: Any, step: Any, index: Any, kind: Any) -> Any:
    address = builder.add(base, builder.mul(step, index))
    return builder.inttoptr(address, kind.as_pointer())


def _columns(builder: Any, at: tuple[Any, Any, Any], lanes: int, *, half: bool) -> Any:
    """Columns of a row, as float32; `half`: stored as bits of bfloat16."""
    numbers = ir.VectorType(_NUMBER, lanes)
    if not half:
        return builder.load(_place(builder, *at, numbers), align=4)
    bits = ir.VectorType(ir.IntType(32), lanes)
    read = builder.load(_place(builder, *at, ir.VectorType(_STORED, lanes)), align=2)
    moved = builder.shl(builder.zext(read, bits), ir.Constant(bits, [16] * lanes))
    return builder.bitcast(moved, numbers)


def _repeated(builder: Any, number: Any, lanes: int) -> Any:
    """A number in all lanes."""
    nothing = ir.Constant(ir.VectorType(_NUMBER, lanes), ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    )


def _rows(count: int, lanes: int) -> _Add:
    """Add products of `count` rows and `lanes` columns.

    The arguments: address of a and bytes from row to row, the same of b and of c, number of terms; address of the lines to
    prefetch, bytes from one to the next, and the last one; an array with the type of b.
    """
    vector = ir.VectorType(_NUMBER, lanes)

    @intrinsic
    def add(
        _typing: object, _a: object, _b: object, _c: object, _d: object, _e: object, _f: object, _g: object,
        _h: object, _i: object, _j: object, like: Any,
    ) -> object:  # fmt: skip
        half = isinstance(like.dtype, types.Integer)

        def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> None:
            a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, ahead_last, _ = arguments
            kind = ir.FunctionType(vector, [vector] * 3)
            # Fused where the processor can; then everywhere.
            fused = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.fmuladd.v{lanes}f32"
            )
            numbers = [ir.Constant(_WHOLE, m) for m in range(count)]
            outs = [_place(builder, c, c_step, m, vector) for m in numbers]
            ins = [builder.add(a, builder.mul(a_step, m)) for m in numbers]
            sums = [cgutils.alloca_once(builder, vector) for _ in numbers]
            for out, total in zip(outs, sums, strict=True):
                builder.store(builder.load(out, align=4), total)
            with cgutils.for_range(builder, terms) as loop:
                beyond = builder.icmp_signed(">", loop.index, ahead_last)
                line = builder.select(beyond, ahead_last, loop.index)
                prefetch(builder, builder.add(ahead, builder.mul(ahead_step, line)))
                right = _columns(builder, (b, b_step, loop.index), lanes, half=half)
                for one, total in zip(ins, sums, strict=True):
                    place = _place(builder, one, ir.Constant(_WHOLE, 4), loop.index, _NUMBER)
                    left = _repeated(builder, builder.load(place, align=4), lanes)
                    builder.store(builder.call(fused, [left, right, builder.load(total)]), total)
            for out, total in zip(outs, sums, strict=True):
                builder.store(builder.load(total), out, align=4)

        whole = types.int64
        return types.void(*[whole] * 10, like), generate

    return cast(_Add, add)


@called
def _lines(ahead: Ints) -> _Lines:
    """A block to prefetch; one without gaps as rows of one line, which are prefetched in order, whatever block is computed."""
    start, rows, step, lines = ahead[0], ahead[1], ahead[2], ahead[3]
    if step == lines * LINE:
        rows, step, lines = rows * lines, LINE, 1
    return start, rows, step, lines


@called
def _lines_beside(lines: _Lines, number: Whole, terms: Whole) -> tuple[Whole, Whole]:
    """The first line to prefetch during a number of terms, the `number`-th time, and the index of the last."""
    start, rows, step, columns = lines
    if columns == 1 and step == LINE:
        return start + number * terms * LINE, max(0, rows - number * terms - 1)
    return (start + number * LINE, rows - 1) if number < columns else (start, 0)


@called
def _fetch_rest(lines: _Lines, times: Whole, terms: Whole) -> None:
    """Prefetch the lines that are left."""
    start, rows, step, columns = lines
    if columns == 1 and step == LINE:
        terms *= times
        times = 1
    for number in range(columns):
        for row in range(terms if number < times else 0, rows):
            fetch(start + row * step + number * LINE)


_Product = Callable[[Whole, Whole, Whole, Whole, Whole, Whole, Shape, Ints, Numbers], None]


def _by(lanes: int) -> _Product:  # noqa: C901  a case for each number of rows
    """`add_product` with so many columns at a time."""
    one, two, three, four, five, six = (_rows(count, lanes) for count in range(1, 7))

    @called
    def add(
        a: Whole, a_step: Whole, b: Whole, b_step: Whole, c: Whole, c_step: Whole, shape: Shape, ahead: Ints, like: Numbers
    ) -> None:  # fmt: skip
        rows, columns, terms = shape
        lines = _lines(ahead)
        for column in range(0, columns, lanes):
            place, last = _lines_beside(lines, column // lanes, terms)
            right, out = b + column * like.itemsize, c + column * 4
            left = a
            for _ in range(rows // 6):
                six(left, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like)
                left, out = left + 6 * a_step, out + 6 * c_step
            rest = rows % 6
            if rest == 1:
                one(left, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like)
            elif rest == 2:
                two(left, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like)
            elif rest == 3:
                three(left, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like)
            elif rest == 4:
                four(left, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like)
            elif rest == 5:
                five(left, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like)
        _fetch_rest(lines, columns // lanes, terms)

    return add


_by_sixteen, _by_eight, _by_four = _by(16), _by(8), _by(4)


def lanes_of(columns: int) -> int:
    """The columns that are computed together: as many as fit in the widest vector registers, or fewer if there are few."""
    return next(lanes for lanes in (16, 8, 4) if columns % lanes == 0)


@inlined
def add_product(
    lanes: int, a: Whole, a_step: Whole, b: Whole, b_step: Whole, c: Whole, c_step: Whole, shape: Shape, ahead: Ints,
    like: Numbers,
) -> None:  # fmt: skip
    """Add to c [rows, columns] the product of a [rows, terms] and b [terms, columns], at these addresses.

    Args:
        lanes: columns at a time; constant.
        a: address; of float32, like c.
        a_step: bytes from row to row.
        b: address.
        b_step: bytes from row to row.
        c: address.
        c_step: bytes from row to row.
        shape: rows, columns and terms; the columns are a multiple of `lanes`.
        ahead: a block to prefetch: address, rows, bytes from row to row, cache lines of a row.
        like: an array with the type of b.
    """
    if lanes == 16:
        _by_sixteen(a, a_step, b, b_step, c, c_step, shape, ahead, like)
    elif lanes == 8:
        _by_eight(a, a_step, b, b_step, c, c_step, shape, ahead, like)
    else:
        _by_four(a, a_step, b, b_step, c, c_step, shape, ahead, like)
