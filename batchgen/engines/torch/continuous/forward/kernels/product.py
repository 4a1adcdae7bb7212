"""Small products in which each result is one chain of additions, whatever else is computed with it.

    c[m, n]  =  c[m, n] + a[m, 0] b[0, n] + a[m, 1] b[1, n] + ...        from left to right

So the bits of a result depend neither on the number of rows and columns nor on further terms that are 0. While b is read,
another block of memory is prefetched.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import binding, ir
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

_LANES = 16
"""Columns that are computed together, if there are as many."""
_WIDER = 4 if binding.get_host_cpu_features().get("avx512f", False) else 1
"""How many times as many are, if there are as many: with few rows, additions to the same sums would wait for each other."""

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
    vector, fetched = ir.VectorType(_NUMBER, lanes), max(1, lanes // _LANES)

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
                first = builder.mul(loop.index, _WHOLE(fetched))
                for number in range(fetched):
                    index = builder.add(first, _WHOLE(number))
                    beyond = builder.icmp_signed(">", index, ahead_last)
                    line = builder.select(beyond, ahead_last, index)
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
def _lines_beside(lines: _Lines, group: Whole, number: Whole, terms: Whole) -> tuple[Whole, Whole]:
    """The first line to prefetch while a group of columns is computed, and the index of the last; `number`: columns before it, by `lanes`."""
    start, rows, step, columns = lines
    if columns == 1 and step == LINE:
        return start + number * terms * LINE, max(0, rows - number * terms - 1)
    return (start + group * LINE, rows - 1) if group < columns else (start, 0)


@called
def _fetch_rest(lines: _Lines, groups: Whole, numbers: Whole, terms: Whole) -> None:
    """Prefetch the lines that are left."""
    start, rows, step, columns = lines
    if columns == 1 and step == LINE:
        terms *= numbers
        groups = 1
    for number in range(columns):
        for row in range(terms if number < groups else 0, rows):
            fetch(start + row * step + number * LINE)


_Group = Callable[
    [Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Whole, Numbers], None
]
_Product = Callable[[Whole, Whole, Whole, Whole, Whole, Whole, Shape, Ints, Numbers], None]


def _group(lanes: int) -> _Group:
    """Add products of any number of rows and `lanes` columns; the arguments are the number, and those of `_rows`."""
    one, two, three, four, five, six = (_rows(count, lanes) for count in range(1, 7))

    @called
    def add(
        rows: Whole, a: Whole, a_step: Whole, b: Whole, b_step: Whole, c: Whole, c_step: Whole, terms: Whole, ahead: Whole,
        ahead_step: Whole, last: Whole, like: Numbers,
    ) -> None:  # fmt: skip
        for _ in range(rows // 6):
            six(a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, last, like)
            a, c = a + 6 * a_step, c + 6 * c_step
        rest = rows % 6
        if rest == 1:
            one(a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, last, like)
        elif rest == 2:
            two(a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, last, like)
        elif rest == 3:
            three(a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, last, like)
        elif rest == 4:
            four(a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, last, like)
        elif rest == 5:
            five(a, a_step, b, b_step, c, c_step, terms, ahead, ahead_step, last, like)

    return add


def _by(lanes: int, wider: int) -> _Product:
    """`add_product` with so many columns at a time, or `wider` times as many while there are as many."""
    narrow = _group(lanes)
    wide = narrow if wider == 1 else _group(lanes * wider)

    @called
    def add(
        a: Whole, a_step: Whole, b: Whole, b_step: Whole, c: Whole, c_step: Whole, shape: Shape, ahead: Ints, like: Numbers
    ) -> None:  # fmt: skip
        rows, columns, terms = shape
        lines, column, group = _lines(ahead), 0, 0
        while column < columns:
            place, last = _lines_beside(lines, group, column // lanes, terms)
            right, out = b + column * like.itemsize, c + column * 4
            if column + lanes * wider <= columns:
                wide(
                    rows, a, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like
                )
                column += lanes * wider
            else:
                narrow(
                    rows, a, a_step, right, b_step, out, c_step, terms, place, lines[2], last, like
                )
                column += lanes
            group += 1
        _fetch_rest(lines, group, columns // lanes, terms)

    return add


_by_sixteen, _by_eight, _by_four = _by(_LANES, _WIDER), _by(8, 1), _by(4, 1)


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
