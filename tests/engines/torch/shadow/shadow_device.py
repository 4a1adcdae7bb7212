"""A device that claims to be a GPU and computes on the CPU, to find what would fail or wait on a real one.

    tensors of two devices in one operation     DeviceMixError, as on a GPU
    an operation that only a CPU has            CpuOnlyError
    a copy to the host, .item(), nonzero, ...   counted: the host waits for the device
    a copy to the device                        counted, unless from pinned memory without waiting
    .numpy() of a tensor on the device          TypeError, by torch itself

A `ShadowTensor` is a wrapper subclass around a CPU tensor. `Shadow` is the block in which such tensors are made. In Python
they claim `cuda`. C++ asks a device for its guard, which a build without CUDA has for few types only: there they claim `lazy`,
which nothing else uses.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)


class DeviceMixError(RuntimeError):
    """Tensors of several devices in one operation."""


class CpuOnlyError(RuntimeError):
    """An operation that only a CPU has, with a tensor on another device."""


class ShadowTensor(Tensor):
    """A CPU tensor that claims another device."""

    on_host: Tensor
    number: int

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> "ShadowTensor":
        lazy = torch.device("lazy", device.index or 0)
        # A view of a tensor that is not of inference mode needs a version counter, in inference mode too.
        with torch.inference_mode(mode=False):
            made: ShadowTensor = Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=lazy,
            )
        made.on_host, made.number = inner, device.index or 0
        return made

    @property
    def claimed(self) -> torch.device:
        return torch.device("cuda", self.number)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # torch's keyword is not used
        return f"ShadowTensor({self.on_host!r}, device={self.claimed})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares a disabled one
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        return _run(func, args, kwargs or {}, None)


@dataclass
class Waits:
    """Where the host waited for the device, and how often."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str) -> None:
        self.counts[f"{kind} at {_caller()}"] += 1

    @property
    def total(self) -> int:
        return self.counts.total()

    def clear(self) -> None:
        self.counts.clear()


def _caller() -> str:
    """The innermost frame of batchgen or transformers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        for package in ("/batchgen/", "/transformers/"):
            if package in name and "/tests/" not in name:
                return f"{name.rpartition(package)[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return "the test"


class _Dispatch(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func.overloadpacket.__name__ in _TAKEN_APART and func._can_decompose():
            # In inference mode such operations are not taken apart before they arrive here.
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {}, self._waits)


_TAKEN_APART = {"to", "item", "is_nonzero", "nonzero_numpy", "pin_memory", "where", "argwhere"}
"""Operations that contain copies or waits."""


class _Functions(TorchFunctionMode):
    """What torch does before it dispatches an operation: it reads the device, copies to lists, and looks up attention."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        del types
        given = kwargs or {}
        if func is torch.device:
            return func(*args, **given)
        if func in _PROPERTIES and isinstance(args[0], ShadowTensor):
            return _PROPERTIES[func](args[0])
        if func is Tensor.tolist and isinstance(args[0], ShadowTensor):
            self._waits.add("copy to the host")
            return args[0].on_host.tolist()
        if func is functional.scaled_dot_product_attention and isinstance(args[0], ShadowTensor):
            tensors = _tensors((args, given))
            _require_one_device(func, tensors, args[0].claimed)
            inner = func(*_map(_inner, tuple(args)), **_map(_inner, given))
            return ShadowTensor(inner, args[0].claimed)
        if any(isinstance(one, torch.device | str) for one in (*args, *given.values())):
            args, given = [_in_c(one) for one in args], {k: _in_c(v) for k, v in given.items()}
        return func(*args, **given)


_getters: Any = Tensor
_PROPERTIES: Mapping[Any, Callable[[ShadowTensor], Any]] = {
    _getters.device.__get__: lambda tensor: tensor.claimed,
    _getters.is_cuda.__get__: lambda _tensor: True,
    _getters.is_cpu.__get__: lambda _tensor: False,
    _getters.get_device: lambda tensor: tensor.number,
}


class Shadow:
    """The block in which `cuda` is the shadow device; `waits` counts."""

    def __init__(self, devices: int = 1, free_bytes: int = 2**28) -> None:
        self.waits = Waits()
        self._patches: Mapping[str, Callable[..., Any]] = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: devices,
            "current_device": lambda: 0,
            "set_device": lambda _device: None,
            "mem_get_info": lambda _device=None: (free_bytes, 2 * free_bytes),
            "memory_reserved": lambda _device=None: 0,
            "memory_allocated": lambda _device=None: 0,
            "empty_cache": lambda: None,
            "synchronize": lambda _device=None: self.waits.add("synchronize"),
            "get_device_properties": lambda _device=None: "shadow",
            "get_device_name": lambda _device=None: "shadow",
        }
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        private: Any = torch._C
        for name, value in self._patches.items():
            self._stack.enter_context(mock.patch.object(torch.cuda, name, value))
        before = private._only_lift_cpu_tensors()
        private._set_only_lift_cpu_tensors(True)
        self._stack.callback(private._set_only_lift_cpu_tensors, before)
        self._stack.enter_context(_Functions(self.waits))
        self._stack.enter_context(_Dispatch(self.waits))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        _PINNED.clear()

    @contextmanager
    def counting(self) -> Iterator[Waits]:
        """Count from zero in this block."""
        self.waits.clear()
        yield self.waits


def _in_c(value: Any) -> Any:
    """A device as C++ sees it."""
    if isinstance(value, str) and value.partition(":")[0] == "cuda":
        value = torch.device(value)
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("lazy", value.index or 0)
    return value


def _claimed(device: torch.device) -> torch.device:
    """A device of C++ as Python sees it."""
    return torch.device("cuda", device.index or 0) if device.type in ("lazy", "cuda") else device


def _inner(value: Any) -> Any:
    if isinstance(value, ShadowTensor):
        return value.on_host
    if isinstance(value, torch.device) and value.type in ("lazy", "cuda"):
        return torch.device("cpu")
    return value


def _place(tensor: Tensor) -> torch.device:
    return tensor.claimed if isinstance(tensor, ShadowTensor) else tensor.device


def _map(change: Callable[[Any], Any], value: Any) -> Any:
    """The value with everything in its lists, tuples and dicts changed."""
    if isinstance(value, tuple | list):
        changed = [_map(change, one) for one in value]
        return changed if isinstance(value, list) else tuple(changed)
    if isinstance(value, dict):
        return {key: _map(change, one) for key, one in value.items()}
    return change(value)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(lambda one: found.append(one) if isinstance(one, Tensor) else None, value)
    return found


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any], waits: Waits | None) -> Any:
    tensors = _tensors((args, kwargs))
    shadows = [one for one in tensors if isinstance(one, ShadowTensor)]
    asked = _claimed(kwargs["device"]) if kwargs.get("device") else None
    target = asked if asked and asked.type == "cuda" else None
    if not shadows and target is None:
        return _on_host(func, args, kwargs)
    name = func.overloadpacket.__name__
    device: torch.device | None = target or shadows[0].claimed
    count = waits.add if waits else lambda _kind: None
    if special := _SPECIAL.get(name):
        device = special(args, kwargs, count)
    else:
        _require_gpu_operation(func)
        if name not in _TAKES_HOST_INDICES and not (target and name.endswith("_like")):
            _require_one_device(func, tensors, target or shadows[0].claimed)
        if wait := _wait(name, args):
            count(wait)
    inner_args, inner_kwargs = _map(_inner, tuple(args)), _map(_inner, kwargs)
    inner_kwargs.pop("pin_memory", None)
    known = {id(one.on_host): one for one in shadows}

    def wrap(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        if id(one) in known:
            return known[id(one)]
        return one if device is None else ShadowTensor(one, device)

    return _map(wrap, func(*inner_args, **inner_kwargs))


def _require_gpu_operation(func: Any) -> None:
    if func.namespace in ("mkldnn", "mkl", "quantized") or "_for_cpu" in str(func):
        raise CpuOnlyError(str(func))


def _require_one_device(func: Any, tensors: Sequence[Tensor], device: torch.device) -> None:
    """Numbers, in tensors without dimensions, may be on the host."""
    for one in tensors:
        if _place(one) != device and (one.dim() or _place(one).type == "cuda"):
            raise DeviceMixError(f"{func}: tensors on {device} and {_place(one)}")


# Of tensors on the host.

_PINNED: dict[int, Tensor] = {}
"""By the place of their memory, which is not used again while a tensor is kept here: until the block ends."""


def _on_host(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    if name == "_pin_memory":
        pinned = args[0].clone()
        _PINNED[pinned.untyped_storage().data_ptr()] = pinned
        return pinned
    if name == "is_pinned":
        return _is_pinned(args[0])
    return func(*args, **kwargs)


def _is_pinned(tensor: Tensor) -> bool:
    return tensor.untyped_storage().data_ptr() in _PINNED


# Of tensors on the device. Each returns the device of the result, None for the host.

_Count = Callable[[str], None]


def _copy_to(args: Sequence[Any], kwargs: Mapping[str, Any], count: _Count) -> torch.device | None:
    source, asked = args[0], kwargs.get("device")
    target = _place(source) if asked is None else _claimed(asked)
    _transfer(source, target, bool(kwargs.get("non_blocking")), count)
    return target if target.type == "cuda" else None


def _copy_into(
    args: Sequence[Any], kwargs: Mapping[str, Any], count: _Count
) -> torch.device | None:
    target, source = args[0], args[1]
    blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
    _transfer(source, _place(target), not blocking, count)
    return _place(target) if isinstance(target, ShadowTensor) else None


def _transfer(source: Tensor, target: torch.device, non_blocking: bool, count: _Count) -> None:
    if target.type in (_place(source).type, "meta") or source.numel() == 0:
        return
    if target.type == "cpu":
        if non_blocking:
            raise RuntimeError("a copy to the host that nobody waits for")
        count("copy to the host")
    elif not (non_blocking and _is_pinned(source)):
        count("copy from the host")


def _to_number(_args: Sequence[Any], _kwargs: Mapping[str, Any], count: _Count) -> None:
    count("item")


_SPECIAL: Mapping[str, Callable[..., torch.device | None]] = {
    "_to_copy": _copy_to,
    "copy_": _copy_into,
    "_local_scalar_dense": _to_number,
}
_SIZE_BY_VALUES = {"nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "equal"} | {
    "unique_consecutive"
}
_TAKES_HOST_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_"}


def _wait(name: str, args: Sequence[Any]) -> str | None:
    """Why the host waits for this operation."""
    if name in _SIZE_BY_VALUES or (name == "repeat_interleave" and isinstance(args[0], Tensor)):
        return name
    if name in _TAKES_HOST_INDICES:
        indices = [one for one in args[1] if one is not None]
        if any(not isinstance(one, ShadowTensor) for one in indices):
            return f"{name} by indices on the host"
        if any(one.dtype in (torch.bool, torch.uint8) for one in indices) and not (
            name != "index" and args[2].numel() == 1
        ):
            return f"{name} by a mask"
    return None


on_shadow = partial(torch.Tensor.to, device=CUDA)
"""Copies a tensor to the shadow device."""
