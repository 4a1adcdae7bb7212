"""Merges a LoRA adapter into a model: W + s B A for each of its layers, so that the merged model is as fast as the base.

    rsLoRA          s = alpha / sqrt(rank)
    DoRA            (W + s B A), each output scaled to the length that the adapter stores for it
    Conv1D          stores W transposed
    embedding       W + s (B A), transposed; B is width x rank
    modules_to_save, bias, saved embeddings: the tensor replaces the parameter

peft computes the same in float32; `tests/engines/torch/adapter` compares. Sums are in float32 and start from the tensor
in the file, so that weights are rounded to the model's dtype once. One matrix is in memory at a time besides the model.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from batchgen.engines.torch.adapter.model_match import check_adapter
from batchgen.errors import AdapterError, Problem
from batchgen.lora.adapter_folder import Adapter
from batchgen.lora.lora_tensors import Findings, LoraMatrices


class StoredParameters:
    """The parameters of a model as its files hold them, by their names in the model."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._prefix = f"{prefix}."
        self._files: dict[str, Path] = {}
        whole = folder / "model.safetensors"
        for file in [whole] if whole.is_file() else sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                self._files.update(dict.fromkeys(opened.keys(), file))

    def precise(self, name: str, parameter: Tensor) -> Tensor:
        """The value in at least float32: that of the file where the model's is its rounding, else the model's."""
        wide = _wide(parameter)
        for stored in (name, name.removeprefix(self._prefix)):
            if stored in self._files:
                with safe_open(self._files[stored], framework="pt") as opened:
                    value: Tensor = opened.get_tensor(stored).to(parameter.device)
                if torch.equal(value.to(parameter.dtype), parameter):
                    return value.to(wide)
        return parameter.detach().to(wide)


class _Merge:
    def __init__(self, model: PreTrainedModel, adapter: Adapter, opened: safe_open) -> None:
        self._model, self._adapter, self._opened = model, adapter, opened
        self.found = Findings()

    def replace_all(self) -> None:
        for name, whole in self._adapter.tensors.whole.items():
            self._put(name, self._read(whole.tensor))

    def add(self, matrices: LoraMatrices, stored: StoredParameters) -> None:
        name = f"{matrices.module}.weight"
        parameter = self._model.get_parameter(name)
        whole = self._adapter.tensors.whole.get(name)
        weight = (
            self._read(whole.tensor).to(_wide(parameter))
            if whole
            else stored.precise(name, parameter)
        )
        module = self._model.get_submodule(matrices.module)
        transposed = isinstance(module, Conv1D | nn.Embedding)
        scale = self._adapter.config.scale(matrices.module)
        product = self._read(matrices.up).to(weight.dtype) @ self._read(matrices.down).to(
            weight.dtype
        )
        weight += (product.T if transposed else product) * scale
        if matrices.magnitude:
            inputs = 0 if transposed else 1
            lengths = torch.linalg.norm(weight, dim=inputs)
            weight *= (self._read(matrices.magnitude).to(weight.dtype) / lengths).unsqueeze(inputs)
        self._put(name, weight)
        if matrices.bias:
            name = f"{matrices.module}.bias"
            bias = self._model.get_parameter(name)
            self._put(name, bias.to(weight.dtype) + scale * self._read(matrices.bias))

    def _read(self, tensor: str) -> Tensor:
        value: Tensor = self._opened.get_tensor(tensor)
        return value.to(self._model.device)

    def _put(self, name: str, value: Tensor) -> None:
        dtype = self._model.get_parameter(name).dtype
        new = value.to(dtype)
        if not bool(new.isfinite().all()):
            kind = str(dtype).removeprefix("torch.")
            self.found.add(f"weights that are not finite in {kind}", name)
        _set(self._model, name, new)


@torch.no_grad()
def merge_adapter(model: PreTrainedModel, adapter: Adapter, base: Path) -> None:
    """Merge an adapter into a model that was loaded from the folder `base`.

    Raises:
        AdapterError: it does not fit the model, or would make weights that are not finite.
    """
    check_adapter(model, adapter)
    stored = StoredParameters(base, model.base_model_prefix)
    with safe_open(adapter.weights, framework="pt") as opened:
        merge = _Merge(model, adapter, opened)
        merge.replace_all()
        for matrices in adapter.tensors.matrices.values():
            merge.add(matrices, stored)
    if sentences := merge.found.sentences():
        hint = "Train the adapter again; if model.dtype is float16, try float32 first."
        raise AdapterError([Problem("", f"{adapter.weights}: {one}", hint) for one in sentences])


def check_finite(adapter: Adapter) -> None:
    """Raise AdapterError if an adapter has a number that is not finite."""
    found = Findings()
    with safe_open(adapter.weights, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118  (not a mapping)
            if not bool(opened.get_tensor(name).isfinite().all()):
                found.add("tensors that are not finite", name)
    if sentences := found.sentences():
        hint = "Train the adapter again, or take an earlier checkpoint of it."
        raise AdapterError([Problem("", f"{adapter.weights}: {one}", hint) for one in sentences])


def untie(model: PreTrainedModel, adapter: Adapter) -> None:
    """Give every parameter that an adapter changes a tensor of its own, as merging does; values are not kept."""
    changed = [f"{name}.weight" for name in adapter.tensors.matrices]
    for name in (*changed, *adapter.tensors.whole):
        _set(model, name, torch.empty_like(model.get_parameter(name)))


def _set(model: PreTrainedModel, name: str, value: Tensor) -> None:
    """Replace a parameter by a new one: a parameter that it was tied to stays as it is."""
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, nn.Parameter(value, requires_grad=False))


def _wide(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)
