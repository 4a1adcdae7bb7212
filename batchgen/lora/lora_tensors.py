"""The tensors of a LoRA adapter, sorted by the module that they belong to.

base_model.model.M.lora_A.weight             rank x inputs  ┐ a linear layer; lora_B.bias with lora_bias
base_model.model.M.lora_B.weight             outputs x rank ┘
base_model.model.M.lora_embedding_A          rank x rows    ┐ an embedding
base_model.model.M.lora_embedding_B          width x rank   ┘
base_model.model.M.lora_magnitude_vector     outputs          with use_dora
base_model.model.M[.base_layer].weight       a whole parameter: modules_to_save, bias, embeddings
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from batchgen.lora.lora_config import LoraConfig

Shape = tuple[int, ...]
PREFIX = "base_model.model."
_EXAMPLES = 3
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(?:\.weight)?"
)
_WRAPPER = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")
"""Added by peft to the names of parameters."""


@dataclass(frozen=True, slots=True)
class LoraMatrices:
    """The tensors of one module, by name; empty where it has none.

    Attributes:
        inputs, outputs: of the layer; of an embedding its rows and their width.
    """

    module: str
    down: str
    up: str
    inputs: int
    outputs: int
    embedding: bool = False
    magnitude: str = ""
    bias: str = ""


@dataclass(frozen=True, slots=True)
class WholeParameter:
    """A tensor that replaces a parameter of the model."""

    tensor: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class LoraTensors:
    """All tensors of an adapter.

    Attributes:
        matrices: by the name of the module.
        whole: by the name of the parameter.
    """

    matrices: Mapping[str, LoraMatrices]
    whole: Mapping[str, WholeParameter]


def sort_tensors(config: LoraConfig, shapes: Mapping[str, Shape]) -> tuple[LoraTensors, list[str]]:
    """Sort the tensors by module. The second value is what contradicts the config or other tensors, a sentence each."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    whole: dict[str, WholeParameter] = {}
    found = Findings()
    for tensor, shape in shapes.items():
        name = tensor.removeprefix(PREFIX)
        if name == tensor or ("lora_" in name and not _PART.fullmatch(name)):
            found.add("tensors of a kind that is not supported", tensor)
        elif match := _PART.fullmatch(name):
            parts[match["module"]][match["part"]] = tensor
        else:
            whole[_WRAPPER.sub("", name)] = WholeParameter(tensor, shape)
    matrices = {
        module: made
        for module, names in parts.items()
        if (made := _matrices(module, names, config, shapes, found=found))
    }
    for saved in config.modules_to_save or ():
        only = config.model_copy(update={"modules_to_save": (saved,)})
        if not any(only.saves(name.rpartition(".")[0]) for name in whole):
            found.add("modules_to_save without a tensor", saved)
    if not shapes:
        found.add("the file has no tensors", "")
    return LoraTensors(matrices, whole), found.sentences()


class Findings:
    """Names by what is wrong with them: one sentence for each kind, with a few of its names."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = defaultdict(list)

    def add(self, what: str, name: str) -> None:
        self._names[what].append(name)

    def sentences(self) -> list[str]:
        return [
            f"{what}: {'; '.join(names[:_EXAMPLES])}"
            + (f" and {len(names) - _EXAMPLES:,} more" if len(names) > _EXAMPLES else "")
            if names[0]
            else what
            for what, names in self._names.items()
        ]


def _matrices(
    module: str,
    names: Mapping[str, str],
    config: LoraConfig,
    shapes: Mapping[str, Shape],
    *,
    found: Findings,
) -> LoraMatrices | None:
    embedding = "lora_embedding_A" in names or "lora_embedding_B" in names
    down, up = (
        names.get(part, "")
        for part in (
            ("lora_embedding_A", "lora_embedding_B")
            if embedding
            else ("lora_A.weight", "lora_B.weight")
        )
    )
    if not down or not up:
        found.add("modules without one of their two matrices", module)
        return None
    first, second = shapes[down], shapes[up]
    if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
        found.add("matrices that cannot be multiplied", f"{module}, {first} and {second}")
        return None
    if first[0] != (rank := config.rank(module)):
        found.add("another rank than in adapter_config.json", f"{module}, {first[0]} not {rank}")
    made = LoraMatrices(
        module=module,
        down=down,
        up=up,
        inputs=first[1],
        outputs=second[0],
        embedding=embedding,
        magnitude=names.get("lora_magnitude_vector", ""),
        bias=names.get("lora_B.bias", ""),
    )
    _check_vectors(made, config, shapes, found)
    return made


def _check_vectors(
    made: LoraMatrices, config: LoraConfig, shapes: Mapping[str, Shape], found: Findings
) -> None:
    vectors = {
        "use_dora": (config.use_dora, made.magnitude),
        # peft gives embeddings none.
        "lora_bias": (config.lora_bias and not made.embedding, made.bias),
    }
    for key, (expected, tensor) in vectors.items():
        if expected != bool(tensor):
            found.add(f"{key} is {str(expected).lower()}, unlike the tensors", made.module)
        elif tensor and shapes[tensor] != (made.outputs,):
            found.add("vectors of another length than their matrices", f"{made.module}, {tensor}")
