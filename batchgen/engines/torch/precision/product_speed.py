"""How many times as fast as in float32 this processor multiplies by packed weights in bfloat16: measured in less than a second."""

import math
from functools import partial

import torch

from batchgen.engines.torch.continuous.forward.processor import has_bfloat16_products
from batchgen.engines.torch.continuous.forward.products.kept_speedup import time_in_turns
from batchgen.engines.torch.continuous.forward.products.linear import (
    MakeLinear,
    PackedLinear,
    packing_works,
)

_ROWS = (8, 64, 256)
"""Rows of the products measured: few and many of a decoding step, and of prompts."""
_WIDTH = 1024
_REPEATS = 25


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
        narrow_x = x.bfloat16()
        seconds = time_in_turns(partial(wide, x), partial(narrow, narrow_x), _REPEATS)
        ratios.append(seconds[0] / seconds[1])
    return math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
