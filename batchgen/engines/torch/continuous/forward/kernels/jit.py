"""How kernels are compiled: their parts, themselves, and where the compiled code is kept.

numba keeps it beside the source, or in the user's cache folder where that cannot be written.
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

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FLAGS = {"reassoc", "contract", "arcp", "nsz"}
"""Sums in any order, fused multiply and add. Not among them: that numbers are finite."""


def inlined(function: _Function) -> _Function:
    """A part of kernels: where it is called with a constant, it is compiled for that constant."""
    made: Any = njit(inline="always", error_model="numpy", fastmath=_FLAGS)(function)
    return cast(_Function, made)


def called(function: _Function) -> _Function:
    """A part of kernels that is compiled once."""
    made: Any = njit(error_model="numpy", fastmath=_FLAGS)(function)
    return cast(_Function, made)


def of_numbers(function: _Function) -> _Function:
    """The same, for a result that does not matter where something is no number."""
    made: Any = njit(error_model="numpy", fastmath={*_FLAGS, "nnan"})(function)
    return cast(_Function, made)


def kernel(signature: str, function: Callable[..., None]) -> Callable[..., None]:
    """Compile, or take from numba's cache on disk."""
    # numba looks at the file of a kernel only, and parts of it lie in others. It keeps kernels of one name together, and
    # processes that start at once could mix them up. So the name tells all.
    function.__qualname__ += f"_{_made_of(function)}"
    made: Any
    try:
        made = njit(signature, cache=True, error_model="numpy", fastmath=_FLAGS)(function)
    except Exception:  # noqa: BLE001  pickle may fail in any way
        # The cache has no folder, its disk is full, or a file of it is broken. What is wrong with the kernel itself shows again here.
        made = njit(signature, error_model="numpy", fastmath=_FLAGS)(function)
    return cast(Callable[..., None], made)


@intrinsic
def fetch(_typing: object, _address: object = None) -> object:
    """Ask for the cache line at an address without waiting: into the second level, the first one is in use."""

    def generate(context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, second_level, data = number(0), number(2), number(1)
        address = builder.inttoptr(arguments[0], pointer)
        builder.call(prefetch, [address, read, second_level, data])
        return context.get_dummy_value()

    return types.void(types.intp), generate


def _made_of(function: Callable[..., None]) -> str:
    """What a kernel is compiled from, with which constants, and for which processor, in one word."""
    constants = sorted(getclosurevars(function).nonlocals.items())
    processor = (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    return hashlib.sha256(repr((_sources(), constants, processor)).encode()).hexdigest()[:16]


@cache
def _sources() -> str:
    """What the files of this folder are, in one word."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
