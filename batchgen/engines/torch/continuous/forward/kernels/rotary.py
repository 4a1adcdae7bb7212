"""Rotary embedding of queries and keys in bfloat16, for which torch has no complex numbers."""

from collections.abc import Callable

import numpy as np

from batchgen.engines.torch.continuous.forward.kernels.jit import (
    Floats,
    Numbers,
    fitted,
    inlined,
    kernel,
    wide,
)

_ONE = np.float32(1)
_ZERO = np.float32(0)


@inlined
def _scale(head: Numbers, eps: np.float32) -> np.float32:
    """One divided by the root mean square of a head."""
    total = _ZERO
    for n in range(len(head)):
        number = wide(head[n])
        total += number * number
    result: np.float32 = _ONE / np.sqrt(total / np.float32(len(head)) + eps)
    return result


@inlined
def _turn(head: Numbers, weight: Floats, waves: Floats, scale: np.float32) -> None:
    """Turn a head [width], of which each number is first multiplied by `scale` and its weight."""
    for n in range(len(waves)):
        cos, sin = waves[n]
        a = wide(head[2 * n]) * (scale * weight[2 * n])
        b = wide(head[2 * n + 1]) * (scale * weight[2 * n + 1])
        head[2 * n] = fitted(a * cos - b * sin, head)
        head[2 * n + 1] = fitted(a * sin + b * cos, head)


@inlined
def turn_heads(
    heads: Numbers, weights: Floats, eps: np.float32, waves: Floats, normed: bool
) -> None:
    """The kernel `turn`; `normed` is constant."""
    for token in range(len(heads)):
        for head in range(len(weights)):
            scale = _ONE
            if normed:
                scale = _scale(heads[token, head], eps)
            _turn(heads[token, head], weights[head], waves[token], scale)


def turn(*, normed: bool) -> Callable[..., None]:
    """Compile the rotation of heads, after an RMSNorm of each head if they are `normed`.

    It computes in float32 and rounds once. The arguments of the kernel, in this order:
        heads: bits of bfloat16 [tokens, heads, width], changed in place; pairs are adjacent.
        weights: float32 [turned, width], of the norms of the first heads, which are turned; ones without norms.
        eps: float32, added to the mean square.
        waves: float32 [tokens, width / 2, 2], cosine and sine.
    """

    def rotate(heads: Numbers, weights: Floats, eps: np.float32, waves: Floats) -> None:
        turn_heads(heads, weights, eps, waves, normed)

    return kernel("void(int16[:,:,::1], float32[:,::1], float32, float32[:,:,::1])", rotate)
