"""Whether kernels compiled by numba can be used: each is compared with torch before its first use.

torch computes what a kernel cannot, and everything where numba cannot be used or a kernel's results are wrong;
`kernel_facts` has the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.quiet import first_line

NUMBERS = {torch.float32: "float32", torch.bfloat16: "int16"}
"""How kernels see the numbers of tensors: numpy has no bfloat16, so that its bits are passed."""

_status: dict[tuple[str, torch.dtype], str] = {}
"""Of each kernel and dtype that was tried in this process: "numba", or "torch" and the reason."""


def kernel_facts(weight: Tensor) -> Mapping[str, str]:
    """For the manifest: for each kernel "numba", or "torch" and why numba's cannot be used with such weights."""
    narrow = weight.dtype == torch.bfloat16
    names = ("attention", "norm", "products", *(["rotary", "layers"] if narrow else []))
    suits = kernels_suit(weight)
    return {
        name: _status.get((name, weight.dtype), "torch") if suits else "torch" for name in names
    }


def kernels_suit(weight: Tensor) -> bool:
    """Whether kernels are written for such weights."""
    return weight.device.type == "cpu" and weight.dtype in NUMBERS


def array_of(tensor: Tensor) -> NDArray[Any]:
    """The memory of a CPU tensor as kernels see it."""
    bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
    return bits.numpy()


def kernel_works(
    kernel: tuple[str, torch.dtype],
    compute: Callable[[], Sequence[Tensor]],
    wanted: Sequence[Tensor],
) -> bool:
    """Whether a kernel computes what is wanted; records why not."""
    reason = _numba_problem()
    if reason is None:
        try:
            pairs = zip(compute(), wanted, strict=True)
            equal = all(_close(a, b) for a, b in pairs)
            reason = None if equal else "its results differ from those of torch"
        except Exception as error:
            # numba and the code that it compiles may fail in any way.
            if out_of_memory(error):
                raise
            reason = first_line(error)
    _status[kernel] = "numba" if reason is None else f"torch: {reason}"
    return reason is None


def _close(found: Tensor, wanted: Tensor) -> bool:
    # A number between two of bfloat16 may be rounded to either.
    relative = 1e-4 if found.dtype == torch.float32 else torch.finfo(found.dtype).eps
    return torch.allclose(found, wanted, rtol=relative, atol=1e-5)


def _numba_problem() -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed"
    try:
        numba: Any = import_module("numba")
    except Exception as error:  # noqa: BLE001  it fails with a numpy that is newer than itself, and in other ways
        return first_line(error)
    # Kernels would run as plain Python.
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None


def drawn(*shape: int) -> Tensor:
    """Random numbers to try a kernel with; the same in every process."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
