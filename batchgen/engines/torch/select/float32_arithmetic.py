"""float32 arithmetic on the weights of a bfloat16 model, without a copy of all of them.

    module   its forward begins: its own weights become float32   ──>   it ends: they are bfloat16 again, as before

The input embedding gives float32, and so everything after it is in float32. Only the weights of one module, and of those
around it, are held twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_Held = dict[nn.Module, list[tuple[nn.Parameter, Tensor]]]
"""Weights of modules whose forward runs, and their bfloat16 numbers."""


@contextmanager
def float32_arithmetic(model: nn.Module) -> Iterator[bool]:
    """In this block the model computes in float32 if its weights are bfloat16 and on a CPU; yields whether it does."""
    handles: list[RemovableHandle] = []
    held: _Held = {}
    try:
        for module in model.modules():
            own = [p for p in module.parameters(recurse=False) if p.dtype == torch.bfloat16]
            if own and all(parameter.device.type == "cpu" for parameter in own):
                held[module] = []
                handles.append(module.register_forward_pre_hook(_widening(held)))
                handles.append(module.register_forward_hook(_restoring(held), always_call=True))
        yield bool(handles)
    finally:
        for handle in handles:
            handle.remove()


def _widening(held: _Held) -> Callable[[nn.Module, object], None]:
    def widen(module: nn.Module, _inputs: object) -> None:
        for parameter in module.parameters(recurse=False):
            if parameter.dtype == torch.bfloat16:
                held[module].append((parameter, parameter.data))
                parameter.data = parameter.data.float()

    return widen


def _restoring(held: _Held) -> Callable[[nn.Module, object, object], None]:
    def restore(module: nn.Module, _inputs: object, _output: object) -> None:
        while held[module]:
            parameter, narrow = held[module].pop()
            parameter.data = narrow

    return restore
