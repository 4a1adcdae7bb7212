"""Compiles kernels and their parts.

numba caches compiled code next to the source, or in the user's cache folder if that is not writable.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from inspect import getclosurevars
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import binding, ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from batchgen.storage.cache_folder import cache_folder
from batchgen.storage.processes import one_process_at_a_time

Floats = NDArray[np.float32]
Numbers = NDArray[np.float32] | NDArray[np.int16]
"""Float32, or the bits of bfloat16."""
Ints = NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FLAGS = {"reassoc", "contract", "arcp", "nsz"}
"""Allow sums in any order and fused multiply-add, but do not assume finite numbers."""


def inlined(function: _Function) -> _Function:
    """Decorator for an inlined part of kernels; constant arguments are compiled in."""
    made: Any = njit(inline="always", error_model="numpy", fastmath=_FLAGS)(function)
    return cast(_Function, made)


def called(function: _Function) -> _Function:
    """Decorator for a part of kernels that is compiled once. It may not sum in any order, see `part_of_each`."""
    made: Any = njit(error_model="numpy", fastmath=_FLAGS)(function)
    return cast(_Function, made)


def part_of_each(function: _Function) -> _Function:
    """Decorator for a part whose bits depend on how it is compiled: LLVM inlines it into each kernel.

    A part that stays a function has the same name in all kernels, and a process uses the first one that it compiles or loads
    for all of them. Copies may sum in different orders: the run that compiles the kernels and the next one, which loads them,
    would differ in last bits.
    """
    made: Any = njit(error_model="numpy", fastmath=_FLAGS, forceinline=True)(function)
    return cast(_Function, made)


def of_numbers(function: _Function) -> _Function:
    """The same, for functions whose result does not matter if an input is NaN."""
    made: Any = njit(error_model="numpy", fastmath={*_FLAGS, "nnan"}, forceinline=True)(function)
    return cast(_Function, made)


def kernel(signature: str, function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel, or load it from numba's cache on disk. It releases the GIL while it runs."""
    # numba's cache checks only the file of a kernel, not the files of its parts, and keeps kernels of the same name together,
    # which processes that start at the same time could mix up. So the name identifies everything that is compiled.
    function.__qualname__ += f"_{_made_of(function, signature)}"
    made: Any
    try:
        # Compiling takes many seconds, loading none: processes that need the same kernel wait for the first one.
        lock = cache_folder() / "kernels" / f"{function.__qualname__.rpartition('.')[2]}.lock"
        with one_process_at_a_time(lock):
            made = njit(signature, cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS)(
                function
            )
    except Exception:  # noqa: BLE001  pickle may fail in any way
        # The cache has no folder, its disk is full, or one of its files is broken. An error of the kernel itself is raised again here.
        made = njit(signature, nogil=True, error_model="numpy", fastmath=_FLAGS)(function)
    return cast(Callable[..., None], made)


def prefetch(builder: Any, address: Any) -> None:
    """Generate the code of `fetch`."""
    number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    called = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    read, second_level, data = number(0), number(2), number(1)
    builder.call(called, [builder.inttoptr(address, pointer), read, second_level, data])


@intrinsic
def fetch(_typing: object, _address: object = None) -> object:
    """Prefetch the cache line at an address into the second level, since the first one is in use."""

    def generate(context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        prefetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp), generate


@intrinsic
def _wide(_typing: object, number: Any = None) -> object:
    """A stored number as float32: an int16 contains the bits of a bfloat16."""
    if not isinstance(number, types.Integer):
        return types.float32(types.float32), lambda _context, _builder, _signature, found: found[0]

    def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        whole = builder.zext(arguments[0], ir.IntType(32))
        return builder.bitcast(builder.shl(whole, whole.type(16)), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def _fitted(_typing: object, _number: object, array: Any = None) -> object:
    """A float32 as a number of an array: of bfloat16 the nearest one, the even one of two; NaN stays NaN."""
    if not isinstance(array.dtype, types.Integer):
        return types.float32(
            types.float32, array
        ), lambda _context, _builder, _signature, found: found[0]

    def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        bits = builder.bitcast(arguments[0], ir.IntType(32))
        odd = builder.and_(builder.lshr(bits, bits.type(16)), bits.type(1))
        rounded = builder.add(bits, builder.add(odd, bits.type(0x7FFF)))
        # The sum could turn a NaN into a number.
        is_nan = builder.fcmp_unordered("uno", arguments[0], arguments[0])
        nearest = builder.select(is_nan, builder.or_(bits, bits.type(0x400000)), rounded)
        return builder.trunc(builder.lshr(nearest, bits.type(16)), ir.IntType(16))

    return types.int16(types.float32, array), generate


wide: Callable[[np.float32 | np.int16], np.float32] = _wide
fitted: Callable[[np.float32, Numbers], np.float32 | np.int16] = _fitted


def _made_of(function: Callable[..., None], signature: str) -> str:
    """Hash of a kernel's sources, types, constants and processor."""
    constants = sorted(getclosurevars(function).nonlocals.items())
    processor = (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    return hashlib.sha256(repr((_sources(), signature, constants, processor)).encode()).hexdigest()[
        :16
    ]


@cache
def _sources() -> str:
    """Hash of the files of this folder."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
