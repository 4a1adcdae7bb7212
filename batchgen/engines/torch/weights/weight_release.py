"""Frees a model's weights once products have packed copies of them; they are read again if the model itself must run.

packed copy made ──> weight freed ──┬──> rows of the continuous tier: the packed copies
└──> beams, `generation_kwargs`, another tier: read again, once
"""

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel


class WeightRelease:
    """The weights of one model."""

    def __init__(self, model: PreTrainedModel, reload: Callable[[], PreTrainedModel]) -> None:
        """`reload` loads the same model again."""
        self._model, self._reload = model, reload
        self._names = {module: name for name, module in model.named_modules()}
        self._released: list[str] = []
        embedding: nn.Module = model.get_input_embeddings()
        self._kept = {id(weight) for weight in embedding.parameters()}
        # The model's own forward is the only place where the freed weights are needed.
        model.register_forward_pre_hook(lambda *_: self.restore())

    def release(self, *modules: nn.Module) -> None:
        """Free the weights of products. Those that the embedding shares stay."""
        for module in modules:
            weight = module.weight
            if isinstance(weight, nn.Parameter) and id(weight) not in self._kept:
                self._released.append(self._names[module])
                empty = torch.empty_like(weight, device="meta")
                module.weight = nn.Parameter(empty, requires_grad=False)
        return_free_memory()

    def restore(self) -> None:
        """Read the freed weights again.

        Raises:
            ModelError: the files have changed.
            ResourceError: too little memory.
        """
        if not self._released:
            return
        fresh = self._reload()
        for name in self._released:
            module, again = self._model.get_submodule(name), fresh.get_submodule(name)
            module.weight = again.weight
        self._released.clear()


def return_free_memory() -> None:
    """Return freed memory to the system, which the C library of Linux otherwise keeps."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
