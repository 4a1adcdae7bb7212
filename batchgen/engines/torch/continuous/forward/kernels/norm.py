"""Norms of rows."""

from collections.abc import Callable

import numpy as np

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    Numbers,
    fitted,
    kernel,
    part_of_each,
)

_FLOAT = np.float32
_ZERO, _ONE = _FLOAT(0), _FLOAT(1)


@part_of_each
def normalize(x: Floats, weight: Floats, eps: np.float32, out: Numbers) -> None:
    """The kernel `rms_norm`."""
    for row in range(len(x)):
        total = _ZERO
        for n in range(len(weight)):
            total += x[row, n] * x[row, n]
        scale = _ONE / np.sqrt(total / _FLOAT(len(weight)) + eps)
        for n in range(len(weight)):
            out[row, n] = fitted(x[row, n] * scale * weight[n], out)


def rms_norm(number: str) -> Callable[..., None]:
    """Compile RMSNorm: each row divided by its root mean square.

    A number is a float32, or an int16 with the bits of a bfloat16. The arguments of the kernel, in this order:
        x: float32 [rows, width].
        weight: float32 [width], multiplies the result.
        eps: float32, added to the mean square.
        out: numbers [rows, width], the result.
    """

    def norm(x: Floats, weight: Floats, eps: np.float32, out: Numbers) -> None:
        normalize(x, weight, eps, out)

    return kernel(f"void(float32[:,::1], float32[::1], float32, {number}[:,::1])", norm)
