"""Measured limits of the machine.

    peak         FLOPs per second of a large square product: the reference of MFU
    bandwidth    bytes per second read from memory: each step reads all weights, which limits steps of few rows

Was never run on a GPU.
"""

import time
from collections.abc import Callable
from functools import cache

import torch

_SIZES = (512, 1024, 2048, 4096)
_ENOUGH_SECONDS = 0.005
"""Seconds of a product that is large enough: the next size would not be faster."""
_TIMES = 3
_READ_BYTES = 2**28
"""Much more than any cache."""


@cache
def measure_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs per second of this process: the best of three products of square matrices.

    1,024 rows on two cores; fewer for slow formats, more on a GPU. Measured once for each device and format.
    """
    fastest = 0.0
    for size in _SIZES:
        one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds = _best(lambda a=one, b=other: a @ b, device)  # type: ignore[misc]
        fastest = max(fastest, 2.0 * size**3 / seconds)
        if seconds > _ENOUGH_SECONDS:
            break
    return fastest


def measure_bandwidth(device: torch.device) -> float:
    """Bytes per second of a sum over 256 MiB: the best of three."""
    numbers = torch.ones(_READ_BYTES // 4, device=device)
    return _READ_BYTES / _best(numbers.sum, device)


@torch.inference_mode()
def _best(work: Callable[[], torch.Tensor], device: torch.device) -> float:
    """Seconds of the fastest of three calls; the first one is a warm-up."""
    seconds = []
    for _ in range(_TIMES):
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
