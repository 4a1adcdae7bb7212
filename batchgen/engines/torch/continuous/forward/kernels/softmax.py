"""Softmax with an exponential that compilers can vectorize."""

import math

import numpy as np
from numpy.typing import NDArray

from batchgen.engines.torch.continuous.forward.kernels.jit import Floats, of_numbers, part_of_each

_FLOAT = np.float32
_ZERO, _HALF, _ONE = _FLOAT(0), _FLOAT(0.5), _FLOAT(1)

_LOG2_E = _FLOAT(1 / math.log(2))
_E1, _E2, _E3, _E4, _E5, _E6, _E7 = (
    _FLOAT(math.log(2) ** n / math.factorial(n)) for n in range(1, 8)
)
"""Taylor series of 2**x: error at most 1e-8 for |x| <= 1/2, less than the resolution of float32."""
_SMALLEST_POWER = _FLOAT(-126)
"""Smallest exponent of a normal float32; smaller results become 2**-126, about 1e-38."""


@of_numbers
def _highest(scores: Floats) -> np.float32:
    """The highest number; any number if one is NaN, which then appears in the sum."""
    highest: np.float32 = scores[0]
    for score in scores:
        highest = max(highest, score)
    return highest


@part_of_each
def softmax(scores: Floats, exponents: NDArray[np.int32]) -> np.float32:
    """Softmax in place; returns the log of the sum of exponentials.

    exp(x) = 2**n (1 + ...) with n a whole number, written into a float's exponent, and |x / log(2) - n| <= 1/2.
    """
    highest = _highest(scores)
    powers = exponents.view(np.float32)
    for t in range(len(scores)):
        x = (scores[t] - highest) * _LOG2_E
        x = _SMALLEST_POWER if x < _SMALLEST_POWER else x
        whole = np.int32(x - _HALF)
        f = x - _FLOAT(whole)
        series = _E3 + f * (_E4 + f * (_E5 + f * (_E6 + f * _E7)))
        scores[t] = _ONE + f * (_E1 + f * (_E2 + f * series))
        exponents[t] = (whole + np.int32(127)) << np.int32(23)
    total = _ZERO
    for t in range(len(scores)):
        scores[t] *= powers[t]
        total += scores[t]
    share = _ONE / total
    for t in range(len(scores)):
        scores[t] *= share
    return highest + _FLOAT(math.log(total))
