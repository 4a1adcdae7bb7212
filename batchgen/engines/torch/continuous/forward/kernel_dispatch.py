"""Decides where kernels compiled by numba replace operations of torch.

    decode on a CPU in float32, no window, no soft cap      one kernel for a layer
    norms on a CPU in float32                               one kernel instead of eight operations

torch computes everything else, and everything where numba cannot be used or a kernel's results are wrong; `kernel_facts` has the reason.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from batchgen.engines.torch.continuous.forward.attention import (
    AttendedKeys,
    AttentionRule,
    LayerQkv,
    PartialAttention,
    past_attention,
)
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import PrefixReach, StepBatch
from batchgen.engines.torch.memory import out_of_memory
from batchgen.engines.torch.quiet import first_line

_SHORT_PREFIX, _FEW_ROWS = 256, 16
"""A prefix with more tokens, shared by more rows, does not stay in the processor's cache from row to row."""

_MOST_THREADS = 2
"""The kernel uses one thread. With more than two, torch, which uses all, may be faster: not measured."""

_MOST_HEADS = 16
"""Query heads per kv head: the kernel has separate code for each of them."""

_status: dict[str, str] = {}
"""Of each kernel that was tried in this process: "numba", or "torch" and the reason."""


@dataclass(frozen=True, slots=True)
class DecodeLayout:
    """Where the keys and values of a decode step's rows are.

    Attributes:
        pages: int64 [rows, most pages], the pages of each row in order, padded with any page.
        lengths: int64 [rows], tokens of each row in its own pages, including the new one.
        prefixes: int64 [rows, 2], first and last + 1 slot of each row's prefix; equal without one.
    """

    pages: Tensor
    lengths: Tensor
    prefixes: Tensor

    @classmethod
    def of(cls, batch: StepBatch) -> "DecodeLayout":
        """From all groups of a decode step; only prefixes that the kernel `kernel_reads_prefix` are included."""
        most = max(group.pages.shape[1] for group in batch.groups)
        pages = [functional.pad(g.pages, (0, most - g.pages.shape[1])) for g in batch.groups]
        prefixes = torch.zeros(len(batch.token_ids), 2, dtype=torch.int64)
        for reach in filter(kernel_reads_prefix, batch.reaches):
            bounds = torch.tensor([reach.slots.start, reach.slots.stop])
            prefixes[reach.first : reach.last] = bounds
        return cls(torch.cat(pages), torch.cat([group.lengths for group in batch.groups]), prefixes)


def kernel_reads_prefix(reach: PrefixReach) -> bool:
    """Whether the kernel reads a prefix, once for each row; otherwise torch reads it once for all rows."""
    return len(reach.slots) <= _SHORT_PREFIX or reach.last - reach.first <= _FEW_ROWS


def kernel_supports_attention(new: LayerQkv, layer: KVLayer) -> bool:
    """Whether the kernel computes attention of one new token of each row in this layer."""
    q, rule = new.q, new.rule
    _, heads, width, size = layer.keys.shape
    return (
        q.device.type == "cpu"
        and q.dtype == torch.float32
        and rule.plain
        and size % 4 == 0
        and torch.get_num_threads() <= _MOST_THREADS
        and attention_works(q.shape[1] // heads, width, layer.values.shape[3])
    )


def kernel_attention(new: LayerQkv, layer: KVLayer, layout: DecodeLayout) -> PartialAttention:
    """Store the keys and values of one new token of each row, then attend to the row's pages and prefix."""
    part = PartialAttention(
        new.q.new_empty(*new.q.shape[:2], new.v.shape[2]), new.q.new_empty(new.q.shape[:2])
    )
    kernel = _attention(new.q.shape[1] // new.k.shape[1], new.q.shape[2], new.v.shape[2])
    stored = (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values)
    where = (layout.pages, layout.lengths, layout.prefixes)
    arrays = (tensor.numpy() for tensor in (new.q, new.k, new.v, *stored, *where))
    kernel(*arrays, new.rule.scale, part.values.numpy(), part.mass.numpy())
    return part


@dataclass(frozen=True, slots=True)
class CompiledNorm:
    """RMSNorm: rows divided by their root mean square, multiplied by a weight."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize contiguous float32 [rows, width]."""
        out = torch.empty_like(x)
        _norm()(x.numpy(), self.weight.numpy(), self.eps, out.numpy())
        return out


def kernel_supports_norm(weight: Tensor) -> bool:
    """Whether `CompiledNorm` works for this weight."""
    return _suits(weight) and norm_works()


def kernel_facts(weight: Tensor) -> Mapping[str, str]:
    """For the manifest: for each kernel "numba", or "torch" and why numba's cannot be used with such weights."""
    names = ("attention", "norm")
    return {name: _status.get(name, "torch") if _suits(weight) else "torch" for name in names}


def _suits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32


# The kernels are imported at their first use: they need numba, which may be missing.


@cache
def _attention(group: int, width: int, high: int) -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import decode

    return decode.attend(group, width, high)


@cache
def _norm() -> Callable[..., None]:
    from batchgen.engines.torch.continuous.forward.kernels import norm

    return norm.rms_norm()


@cache
def norm_works() -> bool:
    """Whether the kernel for norms can be compiled here, and its results are right."""
    x, weight = _drawn(3, 40), _drawn(40)
    wanted = functional.rms_norm(x, (40,), weight, 1e-5)
    return _checked("norm", lambda: [CompiledNorm(weight, 1e-5)(x)], [wanted])


@cache
def attention_works(group: int, width: int, high: int) -> bool:
    """Whether the kernel for `group` query heads per kv head, keys of `width` and values of `high` numbers works here."""
    if width % 4 or group > _MOST_HEADS:
        return False
    case = _case(group, width, high)
    wanted = _by_torch(*case)

    def compute() -> list[Tensor]:
        part = kernel_attention(*case)
        return [part.values, part.mass]

    return _checked("attention", compute, [wanted.values, wanted.mass])


def _case(group: int, width: int, high: int) -> tuple[LayerQkv, KVLayer, DecodeLayout]:
    """Three rows, two of them with a prefix."""
    heads, size = 2, 8
    q, k, v = _drawn(3, group * heads, width), _drawn(3, heads, width), _drawn(3, heads, high)
    new = LayerQkv(0, q, k, v, AttentionRule(width**-0.5))
    layer = KVLayer.like(new.k, new.v, KVStoreSizes(5, size, 7), private_zeros)
    for tensor in (layer.keys, layer.values, layer.prefix_keys, layer.prefix_values):
        tensor.copy_(_drawn(*tensor.shape))
    layout = DecodeLayout(
        torch.tensor([[4, 0, 2], [1, 1, 1], [3, 3, 3]]),
        torch.tensor([21, 8, 1]),
        torch.tensor([[1, 6], [0, 0], [1, 6]]),
    )
    return new, layer, layout


def _by_torch(new: LayerQkv, layer: KVLayer, layout: DecodeLayout) -> PartialAttention:
    """The expected result, computed row by row; stores nothing."""
    parts = []
    bounds = zip(layout.lengths.tolist(), layout.prefixes.tolist(), strict=True)
    for row, (length, (start, stop)) in enumerate(bounds):
        seen = [
            (layer.prefix_keys[:, start:stop], layer.prefix_values[:, start:stop]),
            layer.read(layout.pages[row], length - 1),
            (new.k[row, :, None], new.v[row, :, None]),
        ]
        keys, values = (torch.cat(of, dim=1) for of in zip(*seen, strict=True))
        positions = torch.arange(stop - start + length)
        attended = AttendedKeys(keys, values, positions)
        parts.append(past_attention(new.q[row, None], attended, new.rule, positions[-1:]))
    return PartialAttention.concatenate(parts)


def _checked(
    kernel: str, compute: Callable[[], Sequence[Tensor]], wanted: Sequence[Tensor]
) -> bool:
    """Whether a kernel computes what is wanted; records why not."""
    reason = _numba_problem()
    if reason is None:
        try:
            pairs = zip(compute(), wanted, strict=True)
            equal = all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)
            reason = None if equal else "its results differ from those of torch"
        except Exception as error:
            # numba and the code that it compiles may fail in any way.
            if out_of_memory(error):
                raise
            reason = first_line(error)
    _status[kernel] = "numba" if reason is None else f"torch: {reason}"
    return reason is None


def _numba_problem() -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed"
    try:
        numba: Any = import_module("numba")
    except Exception as error:  # noqa: BLE001  it fails with a numpy that is newer than itself, and in other ways
        return first_line(error)
    # Kernels would run as plain Python.
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None


def _drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
