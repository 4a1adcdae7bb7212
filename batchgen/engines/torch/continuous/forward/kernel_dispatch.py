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
    PartialAttention,
    past_attention,
)
from batchgen.engines.torch.continuous.kv_store import KVLayer, KVStoreSizes, private_zeros
from batchgen.engines.torch.continuous.step import PrefixReach, StepBatch
from batchgen.engines.torch.memory import out_of_memory

_SHORT_PREFIX, _FEW_ROWS = 256, 16
"""A prefix with more tokens, shared by more rows, does not stay in the processor's cache from row to row."""

_MOST_THREADS = 2
"""The kernel uses one thread. With more than two, torch, which uses all, may be faster: not measured."""

_MOST_HEADS = 16
"""Query heads per kv head: the kernel has separate code for each of them."""

_status: dict[str, str] = {}
"""Of each kernel that was tried in this process: "numba", or "torch" and the reason."""


@dataclass(frozen=True, slots=True)
class DecodeQkv:
    """Queries, keys and values of one layer for one new token of each row.

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
    """Where the keys and values of a decode step's rows are.

    Attributes:
        pages: int64 [rows, most pages], the pages of each row in order, padded with any page.
        lengths: int64 [rows], tokens of each row in its own pages, including the new one.
        prefixes: int64 [rows, 2], first and last + 1 place of each row's prefix; equal without one.
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
            prefixes[reach.first : reach.last] = torch.tensor(
                [reach.places.start, reach.places.stop]
            )
        return cls(torch.cat(pages), torch.cat([group.lengths for group in batch.groups]), prefixes)


def kernel_reads_prefix(reach: PrefixReach) -> bool:
    """Whether the kernel reads a prefix, once for each row; otherwise torch reads it once for all rows."""
    return len(reach.places) <= _SHORT_PREFIX or reach.last - reach.first <= _FEW_ROWS


def kernel_supports_attention(q: Tensor, layer: KVLayer, rule: AttentionRule) -> bool:
    """Whether the kernel computes attention of queries [rows, heads, width] in this layer."""
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
    """Store the rows' new keys and values, then attend to their own pages and the prefixes in `held`."""
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
    """RMSNorm: rows divided by their root mean square, multiplied by a weight."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize x float32 [rows, width], contiguous."""
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
    """Whether the kernel for these heads can be compiled here, and its results are right; takes seconds the first time.

    Args:
        group: query heads per kv head.
        width: of keys.
        high: of values.
    """
    if width % 4 or group > _MOST_HEADS:
        return False
    made = _case(group, width, high)
    wanted = _by_torch(made)

    def compute() -> list[Tensor]:
        part = kernel_attention(made.new, made.layer, made.held, made.scale)
        return [part.values, part.mass]

    return _checked("attention", compute, [wanted.values, wanted.mass])


@dataclass(frozen=True, slots=True)
class _Case:
    """Three rows, two of them with a prefix."""

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
    """The expected result, computed row by row; does not change the case."""
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


def _checked(
    kernel: str, compute: Callable[[], Sequence[Tensor]], wanted: Sequence[Tensor]
) -> bool:
    """Whether a kernel computes what is wanted; records why not."""
    reason = _numba_problem()
    if reason is None:
        try:
            near = map(_near, compute(), wanted)
            reason = None if all(near) else "its results differ from those of torch"
        except Exception as error:
            # numba and the code that it compiles may fail in any way.
            if out_of_memory(error):
                raise
            reason = _described(error)
    _status[kernel] = "numba" if reason is None else f"torch: {reason}"
    return reason is None


def _numba_problem() -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed"
    try:
        numba: Any = import_module("numba")
    except Exception as error:  # noqa: BLE001  it fails with a numpy that is newer than itself, and in other ways
        return _described(error)
    # Kernels would run as plain Python.
    return "NUMBA_DISABLE_JIT is set" if numba.config.DISABLE_JIT else None


def _described(error: Exception) -> str:
    lines = str(error).splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _near(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def _drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))
