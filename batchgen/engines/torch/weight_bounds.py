"""Bounds a model by its weights: a config that describes a much larger one is rejected while its layers are built.

transformers builds all layers without memory, then fills those that have no weights with random numbers: a wrong digit
in config.json would take all memory, or hours.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import PreTrainedModel

from batchgen.errors import ModelError

_ONE_FILE = "model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")
_PACKED_PER_BYTE = 4
"""Most numbers that quantisers pack into a byte."""
_BUILT_PER_STORED = 2
"""Tied weights are built twice and stored once."""
_TENSORS_PER_STORED = 4
"""Several tensors may be stored as one, such as queries, keys and values."""
_FEW_NUMBERS, _FEW_TENSORS = 10_000_000, 2_000
"""A model of this size costs nothing; what it lacks is named when it is loaded."""


_Layer = tuple[str, int]
"""A list of layers, such as `model.layers`, and a number in it."""
_IN_LAYER = re.compile(r"(.*?)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """Names of the tensors in the safetensors files of a folder, and how many numbers at most, packed ones included."""

    names: frozenset[str]
    numbers: int

    @property
    def tensors(self) -> int:
        return len(self.names)

    @classmethod
    def read(cls, folder: Path) -> "StoredWeights":
        """Read the headers. Raises OSError or SafetensorError for a damaged file."""
        names: set[str] = set()
        numbers = 0
        whole = folder / _ONE_FILE
        for file in [whole] if whole.is_file() else sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118  (not a mapping)
                    part = opened.get_slice(name)
                    names.add(name)
                    numbers += math.prod(part.get_shape()) * _packed(part.get_dtype())
        return cls(frozenset(names), numbers)

    def unmatched_layers(self, model: PreTrainedModel) -> dict[str, list[str]]:
        """Tensors of layers that the model lacks, and parameters of layers that have no tensors.

        The keys are those of the report of `from_pretrained`. Lists of layers with other names, as in weights that are
        renamed when they are loaded, are left out.
        """
        found, needed = _by_layer(self.names), _by_layer(dict(model.named_parameters()))
        lists = {path for path, _ in found} & {path for path, _ in needed}
        ignored = (
            *(model._keys_to_ignore_on_load_unexpected or ()),
            *(model._keys_to_ignore_on_load_missing or ()),
        )

        def only(one: Mapping[_Layer, list[str]], other: Mapping[_Layer, list[str]]) -> list[str]:
            names = [
                name for key in one.keys() - other.keys() if key[0] in lists for name in one[key]
            ]
            return [name for name in names if not any(re.search(key, name) for key in ignored)]

        return {
            "unexpected_keys": only(found, needed),
            "missing_keys": only(needed, found),
            "mismatched_keys": [],
        }


def _by_layer(names: Iterable[str]) -> dict[_Layer, list[str]]:
    """The names of tensors by layer; those outside layers are left out."""
    layers: dict[_Layer, list[str]] = {}
    for name in names:
        if match := _IN_LAYER.match(name):
            layers.setdefault((match[1], int(match[2])), []).append(name)
    return layers


@contextmanager
def bounded_by(stored: StoredWeights, folder: Path) -> Iterator[None]:
    """Raise ModelError as soon as a model that is built in this block is much larger than the weights of `folder`."""
    most_numbers = max(_FEW_NUMBERS, _BUILT_PER_STORED * stored.numbers)
    most_tensors = max(_FEW_TENSORS, _TENSORS_PER_STORED * stored.tensors)
    built = {"numbers": 0, "tensors": 0}

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        # Weights that are read take the place of those on the meta device, and are not new ones.
        if parameter is None or not parameter.is_meta:
            return
        built["numbers"] += parameter.numel()
        built["tensors"] += 1
        if built["numbers"] > most_numbers or built["tensors"] > most_tensors:
            shape = " x ".join(str(size) for size in parameter.shape)
            raise ModelError(
                f"{folder}: config.json describes a model with at least {built['numbers']:,} parameters "
                f"in {built['tensors']:,} tensors, up to {type(module).__name__}.{name} of {shape}; "
                f"the weights contain {stored.numbers:,} in {stored.tensors:,}",
                hint="Copy or download the model again: config.json and the weights are of different models.",
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _packed(dtype: str) -> int:
    if dtype in _FLOATS or dtype.startswith("F8"):
        return 1
    bits = int("".join(letter for letter in dtype if letter.isdigit()) or 8)
    return _PACKED_PER_BYTE * max(1, bits // 8)
