"""Checks the sizes in config.json, by themselves and against the headers of the weights.

transformers builds a layer for every number that it reads: without these checks a wrong digit takes all memory, or hours.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from batchgen.errors import ModelError
from batchgen.storage.json_file import leaves
from batchgen.storage.safetensors_header import SafetensorsHeader, TensorEntry

TEXT_SECTIONS = ("text_config", "llm_config", "language_config", "thinker_config")
"""Sections of the language model in a multi-part config."""
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "embeddings.weight")
"""Tensors with a row per token."""
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_LAYERS = re.compile(r"(^|[_.])(layers?|blocks|depths?)$")
_SIZES = frozenset(
    (
        "vocab_size", "intermediate_size", "head_dim", *_WIDTHS,
        "num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers",
        "num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads",
        "decoder_attention_heads",
    )
)  # fmt: skip
"""Keys that are positive whole numbers in every language model that has them, or a list with one for each layer."""
_FEW_LAYERS = 1000
"""So many layers without weights cost little: the engine names the missing tensors."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_OTHER_MODEL = (
    "Copy or download the model again: config.json and the weights are of different models."
)


def text_section(config: Mapping[str, object]) -> Mapping[str, object]:
    """The section of the language model; the config itself if it has no sections."""
    for name in TEXT_SECTIONS:
        section = config.get(name)
        if section and isinstance(section, dict):
            return text_section(section) if name == "thinker_config" else section
    return config


def check_sizes(file: Path, config: Mapping[str, object]) -> None:
    """Check that sizes are positive whole numbers, and that there are no more layers than in any model.

    Raises:
        ModelError: all keys that are not.
    """
    section = text_section(config)
    wrong = {
        key: value
        for part in (config, section)
        for key, value in part.items()
        if key in _SIZES and value is not None and not isinstance(value, list | dict)
        if not _is_whole(value) or value < 1
    }
    if wrong:
        shown = ", ".join(f"{key}: {str(value)[:40]}" for key, value in wrong.items())
        raise ModelError(
            f"{file}: {shown}; expected whole numbers of at least 1",
            hint="Copy or download config.json again.",
        )
    _refuse_layers(file, config, 10 * _FEW_LAYERS, "a model can have")


def check_against_weights(
    file: Path, config: Mapping[str, object], headers: Sequence[SafetensorsHeader]
) -> None:
    """Check that config.json has no more layers than the weights can have, and the same embeddings.

    Raises:
        ModelError: they are of different models.
    """
    tensors = [tensor for header in headers for tensor in header.tensors]
    most = max(_FEW_LAYERS, len(tensors))
    _refuse_layers(file, config, most, f"{len(tensors):,} tensors can have")
    if "auto_map" in config:
        return  # the model's own code decides what vocab_size means
    text, wrong = text_section(config), []
    # Quantised embeddings have other shapes.
    shapes = {t.shape: t for t in tensors if t.name.endswith(EMBEDDINGS) and t.dtype in _FLOATS}
    embeddings = [tensor for shape, tensor in shapes.items() if len(shape) == 2]
    rows = text.get("vocab_size")
    if _is_whole(rows) and rows not in {tensor.shape[0] for tensor in embeddings}:
        wrong.append(f"vocab_size: {rows}")
    # Some embeddings have a width of their own, with a key of its own.
    stated = {value for value in text.values() if _is_whole(value)}
    if not stated.intersection(tensor.shape[1] for tensor in embeddings):
        wrong += [f"{key}: {text[key]}" for key in _WIDTHS if _is_whole(text.get(key))]
    if embeddings and wrong:
        raise ModelError(
            f"{file}: {', '.join(wrong)}, but the embeddings in the weights are {_described(embeddings)}",
            hint=_OTHER_MODEL,
        )


def _refuse_layers(file: Path, config: Mapping[str, object], most: int, whose: str) -> None:
    for key, value in leaves(config):
        if _LAYERS.search(key) and _is_whole(value) and value > most:
            raise ModelError(f"{file}: {key}: {value}, more layers than {whose}", hint=_OTHER_MODEL)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _described(tensors: Sequence[TensorEntry]) -> str:
    return ", ".join(f"{t.name} {t.shape[0]} x {t.shape[1]}" for t in tensors[:3])
