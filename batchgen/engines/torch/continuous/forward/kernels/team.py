"""A second thread for products: it waits for the next one without sleeping, since they follow each other within microseconds.

    mailbox     int64 [20]: posted, done, asleep, whether the product is gated, and the arguments of its kernel

The owner writes a product, then adds one to `posted`. The thread computes it, then sets `done` to the same number. If nothing
is posted for a while, the thread sets `asleep` and returns; the owner, after it has posted, reads that and wakes the thread. Both write
first and read then, in one order for all threads: so either the thread sees what is posted, or the owner sees that it sleeps.
"""

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from batchgen.engines.torch.continuous.forward.kernels.jit import Ints, inlined, kernel
from batchgen.engines.torch.continuous.forward.kernels.matmul import compute_gated, compute_product
from batchgen.engines.torch.continuous.forward.kernels.tiles import compute_tiles

POSTED, DONE, ASLEEP, GATED, FIRST = 0, 1, 2, 3, 4
"""Places in a mailbox; `FIRST` is that of the first argument."""
MAILBOX = 20
_LOOKS = 3000
"""Looks before the owner lets other programs run: about 0.1 ms."""
_LOOKS_BEFORE_SLEEP = 30_000
"""Looks before the thread sleeps: about 1 ms, longer than the time between two products of a step. Waking it takes as long as a product of few rows."""
_WHOLE = ir.IntType(64)


def _place(builder: Any, address: Any, place: Any) -> Any:
    moved = builder.add(address, builder.mul(place, _WHOLE(8)))
    return builder.inttoptr(moved, _WHOLE.as_pointer())


@intrinsic
def _load(_typing: object, _address: object = None, _number: object = None) -> object:
    def generate(_context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        return builder.load_atomic(_place(builder, *arguments), "seq_cst", 8)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _store(
    _typing: object, _address: object = None, _number: object = None, _value: object = None
) -> object:
    def generate(context: Any, builder: Any, _signature: object, arguments: Any) -> object:
        builder.store_atomic(arguments[2], _place(builder, *arguments[:2]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def _pause(_typing: object) -> object:
    """Let the other thread of the core work."""

    def generate(context: Any, builder: Any, _signature: object, _arguments: object) -> object:
        kind = ir.FunctionType(ir.VoidType(), [])
        # The kernels for products are those of x86.
        builder.call(
            cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), []
        )
        return context.get_dummy_value()

    return types.void(), generate


load: Callable[[int, int], int] = _load
store: Callable[[int, int, int], None] = _store
pause = cast(Callable[[], None], _pause)


@inlined
def _wait(address: int, seen: int) -> bool:
    """Wait until something is posted after `seen`; False if nothing is for a while, and the thread counts as asleep."""
    looks = 0
    while load(address, POSTED) == seen:
        pause()
        looks += 1
        if looks >= _LOOKS_BEFORE_SLEEP:
            store(address, ASLEEP, 1)
            if load(address, POSTED) == seen:
                return False
            store(address, ASLEEP, 0)
    return True


def serve() -> Callable[..., None]:
    """Compile what the thread does for products of float32: it computes what is posted, until nothing is for a while."""

    def served(box: Ints) -> None:
        address, seen = box.ctypes.data, box[DONE]
        while _wait(address, seen):
            seen += 1
            one = (
                box[FIRST], box[FIRST + 1], box[FIRST + 2], box[FIRST + 3], box[FIRST + 4],
                box[FIRST + 5], box[FIRST + 6], box[FIRST + 7], box[FIRST + 8], box[FIRST + 9],
            )  # fmt: skip
            if box[GATED] == 1:
                compute_gated(*one)
            else:
                compute_product(*one)
            store(address, DONE, seen)

    return kernel("void(int64[::1])", served)


def serve_tiles() -> Callable[..., None]:
    """Compile the same for products in tiles."""

    def served_tiles(box: Ints) -> None:
        address, seen = box.ctypes.data, box[DONE]
        while _wait(address, seen):
            seen += 1
            compute_tiles(
                box[FIRST], box[FIRST + 1], box[FIRST + 2], box[FIRST + 3], box[FIRST + 4], box[FIRST + 5],
                box[FIRST + 6], box[FIRST + 7], box[FIRST + 8], box[FIRST + 9], box[FIRST + 10], box[FIRST + 11],
            )  # fmt: skip
            store(address, DONE, seen)

    return kernel("void(int64[::1])", served_tiles)


def post() -> Callable[..., None]:
    """Compile: post what the mailbox contains."""

    def posted(box: Ints) -> None:
        store(box.ctypes.data, POSTED, box[POSTED] + 1)

    return kernel("void(int64[::1])", posted)


def finish() -> Callable[..., None]:
    """Compile: wait for a while until what was posted is done."""

    def finished(box: Ints) -> None:
        address, posted, looks = box.ctypes.data, box[POSTED], 0
        while load(address, DONE) != posted and looks < _LOOKS:
            pause()
            looks += 1

    return kernel("void(int64[::1])", finished)
