"""Where the kernels that numba compiles take the place of torch's operations, and whether they can here.

    decode on a CPU in float32, no window, no soft cap      one kernel for a layer
    norms on a CPU in float32                               one kernel instead of eight operations

Everything else goes through torch, and so does all of it where numba is missing or broken, or its kernels are wrong. Knows nothing of models.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.attention import (
    AttendedKeys,
    AttentionRule,
    PartialAttention,
    past_attention,
)
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import PrefixReach, StepBatch
from batchgen.engines.torch.memory import out_of_memory

_SHORT_PREFIX, _FEW_ROWS = 256, 16
"""A prefix of more tokens that more rows share leaves the cache between two of them."""

_MOST_THREADS = 2
"""The kernel runs on one. With more than two, torch's operations, which use them all, may be faster: not measured."""

_MOST_HEADS = 16
"""Query heads per kv head: each of them is code of its own in the kernel."""


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class DecodeQkv:
    """What a layer computed for one new token of each row.

    Attributes:
        q: [rows, heads, width].
        k: [rows, kv heads, width].
        v: [rows, kv heads, value width].
    """

    q: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True, slots=True)
class DecodeLayout:
    """Where the rows of a decode step lie.

    Attributes:
        pages: int64 [rows, most pages], of each row in order, then any.
        lengths: int64 [rows], tokens of each row in its own pages, the new one among them.
        prefixes: int64 [rows, 2], first and last + 1 place of each row's prefix; equal without one.
    """

    pages: Tensor
    lengths: Tensor
    prefixes: Tensor

    @classmethod
    def of(cls, batch: StepBatch) -> "DecodeLayout":
        """Of all groups of a decode step; of the prefixes, those that the kernel `kernel_reads_prefix`."""
        most = max(group.pages.shape[1] for group in batch.groups)
        pages = [functional.pad(g.pages, (0, most - g.pages.shape[1])) for g in batch.groups]
        prefixes = torch.zeros(len(batch.token_ids), 2, dtype=torch.int64)
        for reach in filter(kernel_reads_prefix, batch.reaches):
            prefixes[reach.first : reach.last] = torch.tensor(
                [reach.places.start, reach.places.stop]
            )
        return cls(torch.cat(pages), torch.cat([group.lengths for group in batch.groups]), prefixes)


def kernel_reads_prefix(reach: PrefixReach) -> bool:
    """Whether the kernel looks at a prefix, row by row; else all rows do in one product of torch's, which reads it once."""
    return len(reach.places) <= _SHORT_PREFIX or reach.last - reach.first <= _FEW_ROWS


def kernel_supports_attention(q: Tensor, layer: KVLayer, rule: AttentionRule) -> bool:
    """Whether queries [rows, heads, width] are decoded by the kernel in such a layer."""
    _, heads, width, size = layer.keys.shape
    return (
        q.device.type == "cpu"
        and q.dtype == torch.float32
        and rule.plain
        and size % 4 == 0
        and torch.get_num_threads() <= _MOST_THREADS
        and attention_works(q.shape[1] // heads, width, layer.values.shape[3])
    )


def kernel_attention(
    new: DecodeQkv, layer: KVLayer, held: DecodeLayout, scale: float
) -> PartialAttention:
    """Store new keys and values of rows, and attend to all that their own pages hold, and the prefixes that are read."""
    part = PartialAttention(
        new.q.new_empty(*new.q.shape[:2], new.v.shape[2]), new.q.new_empty(new.q.shape[:2])
    )
    kernel = _attention(new.q.shape[1] // new.k.shape[1], new.q.shape[2], new.v.shape[2])
    stored = (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values)
    where = (held.pages, held.lengths, held.prefixes)
    arrays = (tensor.numpy() for tensor in (new.q, new.k, new.v, *stored, *where))
    kernel(*arrays, scale, part.values.numpy(), part.mass.numpy())
    return part


@dataclass(frozen=True, slots=True)
class CompiledNorm:
    """Rows divided by their root mean square, then times a weight."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Of x float32 [rows, width], contiguous."""
        out = torch.empty_like(x)
        _norm()(x.numpy(), self.weight.numpy(), self.eps, out.numpy())
        return out


def kernel_supports_norm(weight: Tensor) -> bool:
    """Whether `CompiledNorm` can be had for such a weight."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and norm_works()


# The kernels are imported when they are first asked for: they need numba, which may be missing.
_KERNELS = "batchgen.engines.torch.slots.kernels"


@cache
def _attention(group: int, width: int, high: int) -> Callable[..., None]:
    kernel: Callable[..., None] = import_module(f"{_KERNELS}.decode").attend(group, width, high)
    return kernel


@cache
def _norm() -> Callable[..., None]:
    kernel: Callable[..., None] = import_module(f"{_KERNELS}.norm").rms_norm()
    return kernel


@cache
def norm_works() -> bool:
    """Whether the kernel for norms can be had here, and is right."""
    if not _numba():
        return False
    x, weight = _drawn(3, 40), _drawn(40)
    found = _tried(lambda: CompiledNorm(weight, 1e-5)(x))
    return _near(found, functional.rms_norm(x, (40,), weight, 1e-5))


@cache
def attention_works(group: int, width: int, high: int) -> bool:
    """Whether the kernel for such heads can be had here, and is right; compiles it, the first time for seconds.

    Args:
        group: query heads per kv head.
        width: of keys.
        high: of values.
    """
    if width % 4 or group > _MOST_HEADS or not _numba():
        return False
    made = _case(group, width, high)
    wanted = _by_torch(made)
    found = _tried(lambda: kernel_attention(made.new, made.layer, made.held, made.scale))
    return (
        found is not None and _near(found.values, wanted.values) and _near(found.mass, wanted.mass)
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """Three rows, two of them behind a prefix."""

    new: DecodeQkv
    layer: KVLayer
    held: DecodeLayout
    scale: float


def _case(group: int, width: int, high: int) -> _Case:
    heads, size = 2, 8
    new = DecodeQkv(
        _drawn(3, group * heads, width), _drawn(3, heads, width), _drawn(3, heads, high)
    )
    layer = KVLayer.like(new.k, new.v, KVStoreSizes(5, size, 7), private_zeros)
    for tensor in (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values):
        tensor.copy_(_drawn(*tensor.shape))
    held = DecodeLayout(
        torch.tensor([[4, 0, 2], [1, 1, 1], [3, 3, 3]]),
        torch.tensor([21, 8, 1]),
        torch.tensor([[1, 6], [0, 0], [1, 6]]),
    )
    return _Case(new, layer, held, width**-0.5)


def _by_torch(case: _Case) -> PartialAttention:
    """What the kernel should give, row by row; nothing of the case is changed."""
    parts = []
    for row, (length, (start, stop)) in enumerate(
        zip(case.held.lengths.tolist(), case.held.prefixes.tolist(), strict=True)
    ):
        keys, values = case.layer.read(case.held.pages[row], length - 1)
        seen = [
            (case.layer.prefix_keys[:, start:stop], case.layer.prefix_values[:, start:stop]),
            (keys, values),
            (case.new.k[row, :, None], case.new.v[row, :, None]),
        ]
        keys, values = (torch.cat(of, dim=1) for of in zip(*seen, strict=True))
        positions = torch.arange(stop - start + length)
        parts.append(
            past_attention(
                case.new.q[row, None],
                AttendedKeys(keys, values, positions),
                AttentionRule(case.scale),
                positions[-1:],
            )
        )
    return PartialAttention(
        torch.cat([p.values for p in parts]), torch.cat([p.mass for p in parts])
    )


def _numba() -> bool:
    if find_spec("numba") is None:
        return False
    # It refuses a numpy that is newer than itself.
    numba: Any = _tried(lambda: import_module("numba"))
    # Switched off by NUMBA_DISABLE_JIT, kernels would run, as Python.
    return numba is not None and not numba.config.DISABLE_JIT


def _tried(compute: Callable[[], Result]) -> Result | None:
    """What a kernel gives, or None if numba does not work here."""
    try:
        return compute()
    except Exception as error:
        # numba and what it compiles may fail in any way: then torch does it.
        if out_of_memory(error):
            raise
        return None


def _near(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def _drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
