"""Compares an adapter with the layers of a model, which may be on the meta device."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from batchgen.errors import AdapterError, Problem
from batchgen.lora.adapter_folder import Adapter
from batchgen.lora.lora_tensors import Findings, LoraMatrices

_OTHER_MODEL = (
    "Set model.path to the model that the adapter was trained with, or remove model.adapter."
)


def check_adapter(model: PreTrainedModel, adapter: Adapter) -> None:
    """Check that every tensor of an adapter has its place in a model, and every layer that it names its tensors.

    Raises:
        AdapterError: it does not fit; all contradictions at once.
    """
    found = Findings()
    modules = dict(model.named_modules())
    for matrices in adapter.tensors.matrices.values():
        _check_matrices(matrices, modules.get(matrices.module), found)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, whole in adapter.tensors.whole.items():
        if name not in parameters:
            found.add("the model has no such parameters", name)
        elif whole.shape != tuple(parameters[name].shape):
            expected = tuple(parameters[name].shape)
            found.add(
                "another shape than the model's", f"{name}, {whole.shape}, expected {expected}"
            )
    try:
        _check_targets(model, adapter, found)
    except TimeoutError:
        found.add("a pattern of adapter_config.json needs too long to match", "")
    if sentences := found.sentences():
        where = f"{adapter.folder} does not fit {type(model).__name__}"
        raise AdapterError([Problem("", f"{where}: {one}", _OTHER_MODEL) for one in sentences])


def _check_matrices(matrices: LoraMatrices, module: nn.Module | None, found: Findings) -> None:
    name = matrices.module
    if module is None:
        found.add("the model has no such modules", name)
        return
    kinds: tuple[type[nn.Module], ...] = (
        (nn.Embedding,) if matrices.embedding else (nn.Linear, Conv1D)
    )
    if not isinstance(module, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        found.add(f"modules that are not {wanted}", f"{name}, {type(module).__name__}")
        return
    weight = module.get_parameter("weight")
    size = tuple(weight.shape) if isinstance(module, nn.Linear) else tuple(weight.shape)[::-1]
    if not weight.is_floating_point():
        found.add("quantised weights, into which an adapter cannot be merged", name)
    elif size != (own := (matrices.outputs, matrices.inputs)):
        found.add("matrices of another size than the model's", f"{name}, {own}, expected {size}")
    if matrices.bias and getattr(module, "bias", None) is None:
        found.add("lora_bias for modules without a bias", name)


def _check_targets(model: PreTrainedModel, adapter: Adapter, found: Findings) -> None:
    config, named = adapter.config, adapter.tensors.matrices
    if config.target_modules is None:
        return
    targets = set(_targets(model, adapter))
    for name in named:
        if name not in targets:
            found.add("tensors of modules that target_modules leaves out", name)
    for name in sorted(targets - named.keys()):
        found.add("modules of target_modules without tensors", name)
    if not targets:
        found.add("target_modules matches nothing", _shown(config.target_modules))


def _targets(model: PreTrainedModel, adapter: Adapter) -> Iterator[str]:
    """The names of all modules that peft would adapt. Tied embeddings that stay tied are adapted together."""
    output = model.get_output_embeddings() if adapter.config.all_linear else None
    embeddings = [model.get_input_embeddings(), model.get_output_embeddings()]
    tied = adapter.config.ensure_weight_tying and any(
        module in embeddings and adapter.config.targets(name)
        for name, module in model.named_modules()
    )
    kinds = (nn.Linear, Conv1D) if adapter.config.all_linear else (nn.Linear, Conv1D, nn.Embedding)
    for name, module in model.named_modules():
        if (tied and module in embeddings) or (
            isinstance(module, kinds) and module is not output and adapter.config.targets(name)
        ):
            yield name


def _shown(targets: str | tuple[str, ...]) -> str:
    return targets if isinstance(targets, str) else ", ".join(targets)
