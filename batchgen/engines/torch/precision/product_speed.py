"""How many times as fast as in float32 this processor multiplies by packed weights in bfloat16.

Measured once for each processor and version of torch, in less than a second, and kept in the cache folder: so `plan`
and every start of a run decide alike. The folder may be deleted at any time.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import TypeAdapter

from batchgen.engines.torch.continuous.forward.linear import (
    Linear,
    MakeLinear,
    PackedLinear,
    packing_works,
)
from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.planning.host_processor import HostProcessor
from batchgen.storage.processes import one_process_at_a_time
from batchgen.storage.record_cache import KeyedRecord, RecordCache

_ROWS = (8, 64, 256)
"""Rows of the products measured: few and many of a decoding step, and of prompts."""
_WIDTH = 1024
_REPEATS = 25


_CONTENT = TypeAdapter(KeyedRecord[float])


def packed_bfloat16_works() -> bool:
    """Whether the weights of a bfloat16 model are packed in bfloat16 here, and those of a float32 model in float32."""
    return packing_works() and has_bfloat16_products() and packing_works(torch.bfloat16)


def measure_bfloat16_speedup(make: MakeLinear = PackedLinear) -> float:
    """Time products of a square weight: the geometric mean over the numbers of rows."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_WIDTH, _WIDTH, generator=generator)
    ratios = []
    for rows in _ROWS:
        x = torch.randn(rows, _WIDTH, generator=generator)
        wide, narrow = make(weight, None), make(weight.bfloat16(), None)
        ratios.append(_ratio(wide, narrow, x))
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))


def _ratio(wide: Linear, narrow: Linear, x: torch.Tensor) -> float:
    """Of the shortest times of two products. They alternate, so that other programs slow down both."""
    inputs = ((wide, x), (narrow, x.bfloat16()))
    best = [math.inf, math.inf]
    for repeat in range(_REPEATS + 1):
        for place, (linear, rows) in enumerate(inputs):
            begin = time.perf_counter()
            linear(rows)
            if repeat:  # the first one is not timed
                best[place] = min(best[place], time.perf_counter() - begin)
    return best[0] / best[1]


def kept_speedup(
    folder: Path, processor: HostProcessor, measure: Callable[[], float] = measure_bfloat16_speedup
) -> float:
    """The speed-up kept in `folder` for this processor and torch; measured and kept if there is none."""
    key = {"processor": f"{processor.name} {sorted(processor.flags)}", "torch": torch.__version__}
    kept = RecordCache(folder, _CONTENT)
    if (known := kept.get(key)) is not None:
        return known
    with one_process_at_a_time(kept.lock(key)):  # a second one would disturb the first
        if (known := kept.get(key)) is not None:
            return known
        speedup = measure()
        kept.put(key, speedup)
        return speedup
