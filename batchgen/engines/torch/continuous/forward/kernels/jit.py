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

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_FLAGS = {"reassoc", "contract", "arcp", "nsz"}
"""Allow sums in any order and fused multiply-add, but do not assume finite numbers."""


def inlined(function: _Function) -> _Function:
    """Decorator for an inlined part of kernels; constant arguments are compiled in."""
    made: Any = njit(inline="always", error_model="numpy", fastmath=_FLAGS)(function)
    return cast(_Function, made)


def called(function: _Function) -> _Function:
    """Decorator for a part of kernels that is compiled once."""
    made: Any = njit(error_model="numpy", fastmath=_FLAGS)(function)
    return cast(_Function, made)


def of_numbers(function: _Function) -> _Function:
    """The same, for functions whose result does not matter if an input is NaN."""
    made: Any = njit(error_model="numpy", fastmath={*_FLAGS, "nnan"})(function)
    return cast(_Function, made)


def kernel(signature: str, function: Callable[..., None]) -> Callable[..., None]:
    """Compile a kernel, or load it from numba's cache on disk."""
    # numba's cache checks only the file of a kernel, not the files of its parts, and keeps kernels of the same name together,
    # which processes that start at the same time could mix up. So the name identifies everything that is compiled.
    function.__qualname__ += f"_{_made_of(function)}"
    made: Any
    try:
        made = njit(signature, cache=True, error_model="numpy", fastmath=_FLAGS)(function)
    except Exception:  # noqa: BLE001  pickle may fail in any way
        # The cache has no folder, its disk is full, or one of its files is broken. An error of the kernel itself is raised again here.
        made = njit(signature, error_model="numpy", fastmath=_FLAGS)(function)
    return cast(Callable[..., None], made)


@intrinsic
def fetch(_typing: object, _address: object = None) -> object:
    """Prefetch the cache line at an address into the second level, since the first one is in use."""

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
    """Hash of a kernel's sources, constants and processor."""
    constants = sorted(getclosurevars(function).nonlocals.items())
    processor = (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    return hashlib.sha256(repr((_sources(), constants, processor)).encode()).hexdigest()[:16]


@cache
def _sources() -> str:
    """Hash of the files of this folder."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
